package ledger

import (
	"context"
	"errors"
	"regexp"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc/metadata"

	"example.com/rolecall/interceptors"
)

// userPrefix tells users from workloads among the owners of accounts: no SPIFFE ID begins like this.
const userPrefix = "user:"

// ownUser is an owner who logs in to this mesh; its usernames are never given to another.
var ownUser = regexp.MustCompile(`^user:[a-z][a-z0-9._-]{0,63}$`)

// maxOwner is how long an owner is at most, in bytes: as long as a SPIFFE ID (SPIFFE-ID §2.3).
const maxOwner = 2048

// checkOwner accepts the SPIFFE ID of a workload, and a user as ownerOf writes one.
func checkOwner(owner string) error {
	if len(owner) <= maxOwner {
		if id, err := spiffeid.FromString(owner); err == nil && id.Path() != "" {
			return nil
		}
		name, user := strings.CutPrefix(owner, userPrefix)
		issuer, subject, _ := strings.Cut(name, "#")
		if ownUser.MatchString(owner) || user && strings.HasPrefix(issuer, "https://") && issuer != "https://" && subject != "" {
			return nil
		}
	}
	return interceptors.InvalidField("owner", "must be a SPIFFE ID such as spiffe://mesh.local/service/orders, or a user such as user:alice")
}

// ownerOf writes a user as an owner: user:NAME for one who logs in to this mesh, user:ISSUER#SUBJECT for one whose tokens a
// company's issuer gives out. The two cannot be confused: a name holds neither a colon nor a number sign.
func ownerOf(u interceptors.User) string {
	if u.Own() {
		return userPrefix + u.Subject()
	}
	return userPrefix + u.Issuer() + "#" + u.Subject()
}

// payer is who asks for transfers: the user on whose behalf the call is made, if there is one, else the calling workload.
type payer struct {
	workload string // the SPIFFE ID of the caller
	user     string // as ownerOf writes it; empty for none
	any      bool   // accounts of others may pay
}

// owns tells whether the account is the payer's own. A workload that acts for a user does not pay out of its own pocket.
func (p payer) owns(a *account) bool {
	if p.user != "" {
		return a.owner == p.user
	}
	return a.owner == p.workload
}

// errUnverified is about a call that brings a user along, to a ledger that was not told of the service tokens. It is not made
// for the workload instead: that one may be allowed what the user is not.
var errUnverified = errors.New("the call carries the token of a user, and this ledger verifies none: it was started without the peer tokens")

// payerOf returns who asks. Accounts of others are for those who hold ledger.admin: the workload, and, where there is one,
// the user too. Neither lends the other what it may not do itself.
func payerOf(ctx context.Context) (payer, error) {
	caller := interceptors.CallerFrom(ctx)
	p := payer{workload: caller.ID().String(), any: caller.HasRole(adminRole)}
	if user, ok := caller.User(); ok {
		p.user = ownerOf(user)
		p.any = p.any && user.HasRole(adminRole)
	} else if len(metadata.ValueFromIncomingContext(ctx, "authorization")) > 0 {
		return payer{}, errUnverified
	}
	return p, nil
}
