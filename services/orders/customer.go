package orders

import (
	"context"

	"example.com/rolecall/interceptors"
)

// readerRole lets a user see the orders of others.
const readerRole = "orders.reader"

// customer returns the username of the user on whose behalf the call is made, empty if there is none. Users of another
// issuer than the mesh's own have no row in users, and so cannot buy.
func customer(ctx context.Context) string {
	user, ok := interceptors.CallerFrom(ctx).User()
	if !ok || !user.Own() {
		return ""
	}
	return user.Subject()
}

// maySee tells whether the call may see the orders of a username, or of everyone if it is empty. A workload that calls for
// nobody sees what its own roles let it; on behalf of a user it sees what she may.
func maySee(ctx context.Context, username string) bool {
	user, ok := interceptors.CallerFrom(ctx).User()
	return !ok || user.HasRole(readerRole) || username != "" && username == customer(ctx)
}
