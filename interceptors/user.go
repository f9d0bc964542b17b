package interceptors

import (
	"bytes"
	"time"

	"example.com/rolecall/interceptors/internal/feature"
)

// User is the person on whose behalf a call is made, verified. The zero User is nobody and holds nothing. Safe for
// concurrent use, for as long as the call lasts.
type User struct{ call *call }

// User returns the user of the call, and false if it is made for nobody but the calling workload itself.
func (c Caller) User() (User, bool) {
	if c.call == nil || c.call.user == nil {
		return User{}, false
	}
	return User(c), true
}

// HasUserRole reports whether the call is made on behalf of a user who holds the role now, and whose token carries it. The
// roles of the workload have no part in it.
func (c Caller) HasUserRole(role string) bool {
	user, ok := c.User()
	return ok && user.HasRole(role)
}

// RequireUserRole returns nil if HasUserRole(role), else the refusal USER_REQUIRED or USER_ROLE_REQUIRED, counted and
// recorded like the guard's own.
func (c Caller) RequireUserRole(role string) error {
	switch {
	case c.HasUserRole(role):
		return nil
	case c.call == nil:
		return userRequired.err(nil)
	case c.call.user == nil:
		return c.call.refuse(userRequired, "handler")
	}
	if r := c.call.decide(); r != allowed {
		return c.call.refuse(r, "handler") // what the call itself rests on is gone
	}
	return c.call.refuse(userRoleRequired, "handler", role)
}

// Subject returns the user's identifier, which its issuer never gives to another; empty for the zero User. Where a company's
// own issuer is configured beside the mesh's, look at Own too: the two may know different people by one name.
func (u User) Subject() string { return u.said().Subject }

// Key returns the user as one string that no other user has: "user:alice" for one of the mesh's own tokens service, else
// "user:ISSUER#SUBJECT"; empty for the zero User. Usernames of the mesh hold no "#".
func (u User) Key() string {
	switch said := u.said(); {
	case u.call == nil:
		return ""
	case said.Own:
		return "user:" + said.Subject
	default:
		return "user:" + said.Issuer + "#" + said.Subject
	}
}

// Issuer returns who issued the token: a SPIFFE ID for the mesh's own tokens service, else the issuer's URL.
func (u User) Issuer() string { return u.said().Issuer }

// LoggedInThrough returns the client that the user logged in with: for the own tokens service, the SPIFFE ID of a workload.
func (u User) LoggedInThrough() string { return u.said().ClientID }

// Own reports whether the token is one of the mesh's own tokens service, so that the subject is a username of the mesh. It is
// false for the users of every other issuer, whatever that calls itself, and for the zero User.
func (u User) Own() bool { return u.said().Own }

// AuthTime returns when the user proved to be that person, the zero time if the token does not say.
func (u User) AuthTime() time.Time { return u.said().AuthTime }

// TokenExpires returns the end of the access token.
func (u User) TokenExpires() time.Time { return u.said().Expires }

// Attributes returns a copy of the attributes that the token carries as JSON, nil if there are none.
func (u User) Attributes() []byte { return bytes.Clone(u.said().Attributes) }

// HasRole reports whether the user holds the role now and the token carries it, or a role that includes it. A role that no
// service of this server defines is not held.
func (u User) HasRole(role string) bool {
	return u.call != nil && u.call.holdsUserRole(role) && u.call.userStanding() == allowed
}

// Roles returns the roles for which HasRole is true, sorted by name.
func (u User) Roles() []string {
	if u.call == nil || u.call.userStanding() != allowed {
		return nil
	}
	return u.call.server.table.Names(u.call.userHeld)
}

func (u User) said() feature.User {
	if u.call == nil {
		return feature.User{}
	}
	return *u.call.user
}
