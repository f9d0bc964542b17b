package tokens

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	usersv1 "example.com/rolecall/gen/users/v1"
)

// accessType is the typ of an access token (RFC 9068 section 2.1).
const accessType = "at+jwt"

// maxAccess bounds an access token, in bytes: verifiers take no longer one.
const maxAccess = 8 << 10

// claims are those of an access token (RFC 9068 section 2.2). Times are seconds since 1970.
type claims struct {
	Issuer     string          `json:"iss"`
	Audience   string          `json:"aud"`
	Subject    string          `json:"sub"`
	ClientID   string          `json:"client_id"`
	ID         string          `json:"jti"`
	Session    string          `json:"sid"`
	Roles      []string        `json:"roles"`
	Held       []string        `json:"held_roles,omitzero"` // with Subset
	Subset     []string        `json:"role_subset,omitzero"`
	Generation int64           `json:"gen"`
	IssuedAt   int64           `json:"iat"`
	NotBefore  int64           `json:"nbf"`
	Expires    int64           `json:"exp"`
	AuthTime   int64           `json:"auth_time"`
	Attributes json.RawMessage `json:"ext,omitempty"`
}

// access is an access token and what it says.
type access struct {
	token   string
	expires time.Time
	roles   []string
}

// mint signs an access token for a session. issued is the time before users was asked for the subject: a token of a
// generation that was raised in between then expires before the raise is forgotten.
func (s *Service) mint(ctx context.Context, session session, subject *usersv1.TokenSubject, issued time.Time) (access, error) {
	a := access{roles: session.roles(subject.GetRoles()), expires: issued.Add(s.config.AccessLife).Truncate(time.Second)}
	c := claims{
		Issuer:     s.id.String(),
		Audience:   s.id.TrustDomain().IDString(),
		Subject:    session.username,
		ClientID:   session.clientID,
		ID:         newID(),
		Session:    session.id,
		Roles:      a.roles,
		Generation: subject.GetGeneration(),
		IssuedAt:   issued.Unix(),
		NotBefore:  issued.Unix(),
		Expires:    a.expires.Unix(),
		AuthTime:   session.authenticated.Unix(),
		Attributes: json.RawMessage(subject.GetAttributes()),
	}
	if !session.all {
		// Which roles include which is known to the services that define them, and not here: they work out what of the roles
		// held the subset leaves. Whoever reads roles alone sees less of it, never more.
		c.Held, c.Subset = append([]string{}, subject.GetRoles()...), append([]string{}, session.subset...)
	}
	text, err := encode(c)
	if err != nil {
		return access{}, fmt.Errorf("encode the claims of a token: %w", err)
	}
	if a.token, err = s.keys.sign(ctx, accessType, text); err != nil {
		return access{}, err
	}
	if len(a.token) > maxAccess {
		return access{}, errTooLong
	}
	return a, nil
}

// roles returns those of the user that the session asked for by name.
func (s session) roles(held []string) []string {
	carried := []string{}
	for _, role := range held {
		if s.all || slices.Contains(s.subset, role) {
			carried = append(carried, role)
		}
	}
	return carried
}

// encode writes JSON without HTML's escapes, which would make attributes up to six times as long.
func encode(v any) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(text.Bytes(), "\n"), nil
}
