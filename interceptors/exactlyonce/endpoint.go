package exactlyonce

import (
	"context"
	"database/sql"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Endpoint is a method of the local form in three steps, for those who like to see them apart. All three are
// required.
type Endpoint[Req, State, Resp any] struct {
	// Load reads what the request is about, and locks it: SELECT ... FOR UPDATE in PostgreSQL.
	Load func(ctx context.Context, tx *sql.Tx, request Req) (State, error)
	// Update decides, and writes what is to be.
	Update func(ctx context.Context, tx *sql.Tx, request Req, state *State) error
	// Respond tells what it is now.
	Respond func(request Req, state State) Resp
}

// Handle runs the steps in the open transaction. An error of Load or Update ends it; the final ones are stored.
func (e Endpoint[Req, State, Resp]) Handle(ctx context.Context, request Req) (Resp, error) {
	var none Resp
	tx := Tx(ctx)
	if tx == nil {
		return none, status.Error(codes.Internal, "the endpoint has no open transaction: its method needs the annotation exactly_once")
	}
	state, err := e.Load(ctx, tx, request)
	if err != nil {
		return none, err
	}
	if err := e.Update(ctx, tx, request, &state); err != nil {
		return none, err
	}
	return e.Respond(request, state), nil
}
