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

// checkOwner accepts the SPIFFE ID of a workload, and a user.
func checkOwner(owner string) error {
	if len(owner) <= maxOwner {
		if id, err := spiffeid.FromString(owner); err == nil && id.Path() != "" {
			return nil
		}
		if isUser(owner) {
			return nil
		}
	}
	return interceptors.InvalidField("owner", "must be a SPIFFE ID such as spiffe://mesh.local/service/orders, or a user such as user:alice")
}

// isUser tells whether an owner is a user, as interceptors.User.Key writes one.
func isUser(owner string) bool {
	name, user := strings.CutPrefix(owner, userPrefix)
	issuer, subject, _ := strings.Cut(name, "#")
	return len(owner) <= maxOwner &&
		(ownUser.MatchString(owner) || user && strings.HasPrefix(issuer, "https://") && issuer != "https://" && subject != "")
}

// payer is who asks for transfers: the workload that signed the request, if another has passed it on, else the user on whose
// behalf the call is made, if there is one, else the calling workload.
type payer struct {
	workload string // the SPIFFE ID of the caller
	signer   string // that of the workload whose key signed the request; empty for a method without proof
	user     string // as interceptors.User.Key writes users; empty for none
	any      bool   // accounts of others may pay
}

// relayed tells whether the caller passes on what another has signed.
func (p payer) relayed() bool { return p.signer != "" && p.signer != p.workload }

// owns tells whether the account is the payer's own. A workload that acts for a user does not pay out of its own pocket, and
// one that passes on a signed request neither out of its own nor out of its user's.
func (p payer) owns(a *account) bool {
	switch {
	case p.relayed():
		return a.owner == p.signer
	case p.user != "":
		return a.owner == p.user
	default:
		return a.owner == p.workload
	}
}

// errUnverified is about a call that brings a user along, to a ledger that was not told of the service tokens. It is not made
// for the workload instead: that one may be allowed what the user is not.
var errUnverified = errors.New("the call carries the token of a user, and this ledger verifies none: it was started without the peer tokens")

// payerOf returns who asks. Accounts of others are for those who hold ledger.admin: the workload, and, where there are any, the
// user and the signer of a request that is passed on, whom HasRole asks too. None lends another what that one may not do.
func payerOf(ctx context.Context) (payer, error) {
	caller := interceptors.CallerFrom(ctx)
	p := payer{workload: caller.ID().String(), any: caller.HasRole(adminRole)}
	if user, ok := caller.User(); ok {
		p.user = user.Key()
		p.any = p.any && user.HasRole(adminRole)
	} else if len(metadata.ValueFromIncomingContext(ctx, "authorization")) > 0 {
		return payer{}, errUnverified
	}
	if signer, ok := caller.Signer(); ok {
		p.signer = signer.String()
	}
	return p, nil
}
