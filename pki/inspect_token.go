package pki

import (
	"cmp"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// accessTokenType is what the header of an access token says of its type (RFC 9068 §2.1).
const accessTokenType = "at+jwt"

func isAccessToken(token *jwt.JSONWebToken) bool {
	typ, _ := token.Headers[0].ExtraHeaders[jose.HeaderType].(string)
	typ = strings.ToLower(typ)
	return typ == accessTokenType || typ == "application/"+accessTokenType
}

// accessClaims are what RFC 9068 §2.2 and the service tokens put into an access token.
type accessClaims struct {
	jwt.Claims
	ClientID   string           `json:"client_id"`
	Session    string           `json:"sid"`
	Roles      []string         `json:"roles"`
	Generation *int64           `json:"gen"`
	AuthTime   *jwt.NumericDate `json:"auth_time"`
	Attributes any              `json:"ext"`
}

// inspectAccessToken tells of whom a token speaks and what it lets that user do. Whether it was revoked is known to services
// alone.
func inspectAccessToken(token *jwt.JSONWebToken, now time.Time) Object {
	o := Object{Kind: kindAccessToken}
	var claims accessClaims
	if err := token.UnsafeClaimsWithoutVerification(&claims); err != nil {
		o.problem("claims: %v", err)
		return o
	}
	o.required("user", claims.Subject)
	o.field("roles", cmp.Or(strings.Join(claims.Roles[:min(len(claims.Roles), maxShown)], ", "), "none"))
	o.required("issuer", claims.Issuer)
	o.required("audience", strings.Join(claims.Audience, ", "))
	if claims.ClientID != "" {
		o.field("logged in through", claims.ClientID)
	}
	if claims.AuthTime != nil {
		o.field("logged in", utc(claims.AuthTime.Time())+" "+relative(claims.AuthTime.Time(), now))
	}
	if claims.Expiry == nil {
		o.problem("it has no end, so it must be refused everywhere") // RFC 9068 §2.2
	} else {
		end := claims.Expiry.Time()
		o.field("valid until", utc(end)+" "+relative(end, now))
		if !now.Before(end) {
			o.problem("expired at %s", utc(end))
		}
	}
	if claims.Session != "" {
		o.field("session", claims.Session)
	}
	if claims.Generation != nil {
		o.field("generation", strconv.FormatInt(*claims.Generation, 10))
	}
	if claims.Attributes != nil {
		o.field("attributes", "there are some (claim ext)")
	}
	o.field("algorithm", token.Headers[0].Algorithm)
	if kid := token.Headers[0].KeyID; kid != "" {
		o.field("key ID", kid)
	}
	o.field("signature", unverified)
	return o
}

// required shows a claim that every access token has.
func (o *Object) required(name, value string) {
	if value == "" {
		o.problem("it names no %s, so it must be refused everywhere", name)
		return
	}
	o.field(name, value)
}
