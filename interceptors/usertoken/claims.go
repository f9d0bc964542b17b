package usertoken

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/interceptors/internal/jws"
)

const (
	accessToken = "at+jwt" // RFC 9068 §2.1
	maxSubject  = 256      // bytes
)

// times are the claims of a token about time, in seconds since 1970.
type times struct{ issued, notBefore, expires int64 }

// readTimes reads whole numbers. The others may leave nbf out.
func readTimes(claims jws.Object, needNotBefore bool) (t times, err error) {
	if t.issued, err = claims.Int("iat"); err != nil {
		return t, err
	}
	if t.expires, err = claims.Int("exp"); err != nil {
		return t, err
	}
	t.notBefore = t.issued
	if needNotBefore || claims.Has("nbf") {
		t.notBefore, err = claims.Int("nbf")
	}
	return t, err
}

// check tells whether the token is good at a time, to the second of the leeway.
func (t times) check(now time.Time, leeway, most time.Duration) (feature.Verdict, string) {
	switch {
	case t.expires <= t.issued || t.expires-t.issued > int64(most/time.Second):
		return feature.Invalid, fmt.Sprintf("it lives for %d s, at most %s is accepted", t.expires-t.issued, most)
	case time.Unix(t.issued, 0).After(now.Add(leeway)):
		return feature.Invalid, "issued in the future: compare the clocks"
	case time.Unix(t.notBefore, 0).After(now.Add(leeway)):
		return feature.Invalid, "not valid yet: compare the clocks"
	case !now.Before(time.Unix(t.expires, 0).Add(leeway)):
		return feature.Expired, "expired at " + time.Unix(t.expires, 0).UTC().Format(time.RFC3339)
	}
	return feature.Good, ""
}

// ownUser reads the claims of a token that the tokens service signed.
func (v *verifier) ownUser(claims jws.Object) (*feature.User, feature.Verdict, string) {
	u := &feature.User{Issuer: v.issuer, Own: true}
	t, err := readOwn(claims, u, v.audience)
	if err != nil {
		return nil, feature.Invalid, err.Error()
	}
	u.Expires, u.IssuedAt = time.Unix(t.expires, 0), time.Unix(t.issued, 0)
	verdict, detail := t.check(v.env.Now(), v.cfg.Leeway, v.cfg.MaxLife)
	return u, verdict, detail
}

func readOwn(claims jws.Object, u *feature.User, audience string) (t times, err error) {
	if issuer, err := claims.String("iss"); err != nil || issuer != u.Issuer {
		return t, errors.New("the claim iss is not the tokens service")
	}
	// One audience, as a string: RFC 7519 §4.1.3 would allow an array, and with it a second reader.
	if aud, err := claims.String("aud"); err != nil || aud != audience {
		return t, fmt.Errorf("the claim aud is not %q", audience)
	}
	for _, text := range []struct {
		name string
		to   *string
	}{{"sub", &u.Subject}, {"client_id", &u.ClientID}, {"sid", &u.Session}, {"jti", new(string)}} {
		if *text.to, err = claims.String(text.name); err != nil {
			return t, err
		}
	}
	if len(u.Subject) > maxSubject || len(u.Session) > maxName {
		return t, errors.New("sub or sid is too long")
	}
	if _, err := spiffeid.FromString(u.ClientID); err != nil {
		return t, errors.New("client_id is not a SPIFFE ID")
	}
	if err := readRoles(claims, u); err != nil {
		return t, err
	}
	generation, err := claims.Int("gen")
	if err != nil {
		return t, err
	}
	u.Generation = uint64(generation)
	auth, err := claims.Int("auth_time")
	if err != nil {
		return t, err
	}
	u.AuthTime = time.Unix(auth, 0)
	u.Attributes = attributes(claims)
	return readTimes(claims, true)
}

// readRoles reads what the user may do. A token for a subset says what the user holds and what of it was asked for: only the
// services that define the roles know which ones these include.
func readRoles(claims jws.Object, u *feature.User) (err error) {
	if u.Roles, err = claims.Strings("roles"); err != nil {
		return err
	}
	if !claims.Has("role_subset") && !claims.Has("held_roles") {
		return nil
	}
	u.Narrowed = true
	if u.Subset, err = claims.Strings("role_subset"); err != nil {
		return err
	}
	u.Roles, err = claims.Strings("held_roles")
	return err
}

// otherUser reads the claims of a token that another issuer signed.
func (v *verifier) otherUser(o Issuer, claims jws.Object) (*feature.User, feature.Verdict, string) {
	u := &feature.User{Issuer: o.URL}
	t, err := readOther(claims, u, o)
	if err != nil {
		return nil, feature.Invalid, err.Error()
	}
	u.Expires, u.IssuedAt = time.Unix(t.expires, 0), time.Unix(t.issued, 0)
	verdict, detail := t.check(v.env.Now(), v.cfg.Leeway, o.MaxLife)
	return u, verdict, detail
}

func readOther(claims jws.Object, u *feature.User, o Issuer) (t times, err error) {
	if issuer, err := claims.String("iss"); err != nil || issuer != o.URL {
		return t, errors.New("the claim iss is not the issuer's URL")
	}
	audiences, err := claims.Strings("aud")
	if one, single := claims.String("aud"); single == nil {
		audiences, err = []string{one}, nil
	}
	if err != nil || !slices.Contains(audiences, o.Audience) {
		return t, fmt.Errorf("the claim aud does not name %q", o.Audience)
	}
	if u.Subject, err = claims.String("sub"); err != nil {
		return t, err
	}
	if len(u.Subject) > maxSubject {
		return t, errors.New("sub is too long")
	}
	if claims.Has("client_id") {
		if u.ClientID, err = claims.String("client_id"); err != nil {
			return t, err
		}
	}
	if claims.Has(o.RolesClaim) {
		if u.Roles, err = claims.Strings(o.RolesClaim); err != nil {
			return t, err
		}
	}
	if claims.Has("auth_time") {
		auth, err := claims.Int("auth_time")
		if err != nil {
			return t, err
		}
		u.AuthTime = time.Unix(auth, 0)
	}
	u.Attributes = attributes(claims)
	return readTimes(claims, false)
}

// attributes returns the claim ext, nil if it is absent or null.
func attributes(claims jws.Object) []byte {
	if raw := claims["ext"]; string(raw) != "null" {
		return raw
	}
	return nil
}
