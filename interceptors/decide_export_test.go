package interceptors

import (
	"context"
	"fmt"
)

// Decision is everything that decide is asked with, taken from an RPC on a real connection.
type Decision struct {
	server *Server
	conn   *connection
	method *method
	call   *call
}

// DecisionOn returns the decision on the call that a handler's context belongs to.
func DecisionOn(ctx context.Context) (Decision, error) {
	c := CallerFrom(ctx).call
	if c == nil {
		return Decision{}, fmt.Errorf("the context is not one of an RPC")
	}
	return Decision{c.server, c.conn, c.method, c}, nil
}

// Allowed decides once more.
func (d *Decision) Allowed() bool {
	return d.server.decide(d.conn, d.method.rule, nil) == allowed
}

// UserAdmitted looks once more for a user on whose behalf the call is made, and for what has become of the user.
func (d *Decision) UserAdmitted() bool {
	r, _ := d.call.admitUser()
	return r == allowed && d.call.userStanding() == allowed
}
