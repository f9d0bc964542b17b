package interceptors

import (
	"strings"

	"google.golang.org/grpc/metadata"

	"example.com/rolecall/interceptors/internal/feature"
)

// tokenKey is the metadata that carries an access token (RFC 6750 §2.1).
const tokenKey = "authorization"

// maxToken bounds an access token, in bytes: ours has about one kilobyte, with 4 KB of attributes about seven.
const maxToken = 8 << 10

// admitUser verifies the access token of a call. A method that asks for no user may be called with one all the same, and
// its handler then sees the user: what comes along must be good. Methods without annotations of ours know no users.
func (c *call) admitUser() reason {
	users := c.server.guard.users
	if users == nil || !c.method.rule.Annotated {
		return allowed
	}
	values := metadata.ValueFromIncomingContext(c.Context, tokenKey)
	if len(values) == 0 {
		if c.method.rule.Conditions.User {
			return userRequired
		}
		return allowed
	}
	token, ok := bearer(values)
	if !ok {
		c.detail = "the metadata authorization is not exactly one bearer token of at most 8 KiB"
		return userTokenInvalid
	}
	user, verdict, detail := users.Verify(token)
	if verdict != feature.Good {
		c.detail = detail
		return userReasons[verdict]
	}
	c.user, c.userHeld = user, c.server.table.Closure(user.Roles)
	if user.Narrowed {
		c.userHeld = c.userHeld.And(c.server.table.Closure(user.Subset))
	}
	if !c.userHeld.ContainsAll(c.method.rule.UserNeed) {
		return userRoleRequired
	}
	return allowed
}

func (c *call) loginMethod() string {
	if users := c.server.guard.users; users != nil {
		return users.LoginMethod()
	}
	return ""
}

// bearer returns the token of the only value. The scheme's case does not matter (RFC 9110 §11.1).
func bearer(values []string) (string, bool) {
	const scheme = "bearer "
	if len(values) != 1 || len(values[0]) <= len(scheme) || !strings.EqualFold(values[0][:len(scheme)], scheme) {
		return "", false
	}
	token := values[0][len(scheme):]
	return token, len(token) <= maxToken
}

// userReasons are the refusals that a feature's verdicts mean.
var userReasons = [...]reason{
	feature.Good:        allowed,
	feature.Invalid:     userTokenInvalid,
	feature.Expired:     userTokenExpired,
	feature.Revoked:     userTokenRevoked,
	feature.Unavailable: verifierUnavailable,
}

// userStanding tells whether the user of the call, if there is one, is still good.
func (c *call) userStanding() reason {
	if c.user == nil {
		return allowed
	}
	return userReasons[c.server.guard.users.Standing(c.user)]
}

// missingUserRoles returns what of the names the user does not hold.
func (c *call) missingUserRoles(names []string) []string {
	var missing []string
	for _, name := range names {
		if !c.holdsUserRole(name) {
			missing = append(missing, name)
		}
	}
	return missing
}

func (c *call) holdsUserRole(name string) bool {
	i, ok := c.server.table.RoleIndex(name)
	return ok && c.user != nil && c.userHeld.Has(i)
}
