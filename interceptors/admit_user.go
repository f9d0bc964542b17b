package interceptors

import (
	"google.golang.org/grpc/metadata"

	"example.com/rolecall/interceptors/internal/feature"
)

// admitUser verifies the access token of a call. A method that asks for no user may be called with one all the same, and
// its handler then sees the user: what comes along must be good. Methods without annotations of ours know no users.
// The detail is for the audit record.
func (c *call) admitUser() (r reason, detail string) {
	users := c.server.guard.users
	if users == nil || !c.method.rule.Annotated {
		return allowed, ""
	}
	values := metadata.ValueFromIncomingContext(c.Context, feature.TokenKey)
	if len(values) == 0 {
		if c.method.rule.Conditions.User {
			return userRequired, ""
		}
		return allowed, ""
	}
	token, ok := feature.Bearer(values)
	if !ok {
		return userTokenInvalid, "the metadata authorization is not exactly one bearer token of at most 8 KiB"
	}
	user, verdict, detail := users.Verify(token)
	if r := c.reasonOf(aboutUser, verdict); r != allowed {
		return r, detail
	}
	c.user, c.userHeld = user, c.server.table.Closure(user.Roles)
	if user.Narrowed {
		c.userHeld = c.userHeld.And(c.server.table.Closure(user.Subset))
	}
	if !c.userHeld.ContainsAll(c.method.rule.UserNeed) {
		return userRoleRequired, ""
	}
	return allowed, ""
}

func (c *call) loginMethod() string {
	if users := c.server.guard.users; users != nil {
		return users.LoginMethod()
	}
	return ""
}

// userStanding tells whether the user of the call, if there is one, is still good.
func (c *call) userStanding() reason {
	if c.user == nil {
		return allowed
	}
	return c.reasonOf(aboutUser, c.server.guard.users.Standing(c.user))
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
