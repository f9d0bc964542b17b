package proof

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/interceptors/internal/jws"
)

const (
	proofType = "rolecall-proof+jwt"
	algorithm = "ES256"
	// maxLife is the longest time from iat to exp. It is the same everywhere: a window remembers for as long.
	maxLife = time.Minute
	// maxRoles bounds the list of those that a signer kept.
	maxRoles = 64
)

var encoding = base64.RawURLEncoding.Strict()

// claims is what a proof says. The order of the fields is that of the JSON.
type claims struct {
	Issuer   string   `json:"iss"` // SPIFFE ID of the signer
	Audience string   `json:"aud"` // SPIFFE ID of the server
	Method   string   `json:"mth"` // in full: /package.Service/Method
	Body     string   `json:"bth"` // hash of the request message
	Nonce    string   `json:"jti"` // 16 bytes
	Issued   int64    `json:"iat"`
	Expires  int64    `json:"exp"`
	Roles    []string `json:"roles,omitempty"` // the values of rolecall-role-subset; absent: not narrowed
	Via      string   `json:"via,omitempty"`   // SPIFFE ID of who may pass it on; absent: whoever has the role
	Token    string   `json:"ath,omitempty"`   // hash of the access token (RFC 9449 §4.2); absent: none goes along
	Names    []string `json:"mdk,omitempty"`   // of the other metadata that is covered
	Metadata string   `json:"mdh,omitempty"`   // hash of what it says
}

// hash is how the claims stand for bytes: base64url of SHA-256, 43 characters.
func hash[T string | []byte](data T) string {
	sum := sha256.Sum256([]byte(data))
	return encoding.EncodeToString(sum[:])
}

// names are those of all claims. A proof with another one is refused: what this version does not know may be a condition.
var names = map[string]bool{
	"iss": true, "aud": true, "mth": true, "bth": true, "jti": true, "iat": true, "exp": true, "roles": true, "via": true, "ath": true, "mdk": true, "mdh": true,
}

// readClaims reads a proof's claims by their exact names and types.
func readClaims(o jws.Object) (c claims, err error) {
	for name := range o {
		if !names[name] {
			return c, fmt.Errorf("the claim %.40q is not known", name)
		}
	}
	if err := readStrings(o, map[string]*string{
		"iss": &c.Issuer, "aud": &c.Audience, "mth": &c.Method, "bth": &c.Body, "jti": &c.Nonce,
	}); err != nil {
		return c, err
	}
	if c.Issued, err = o.Int("iat"); err != nil {
		return c, err
	}
	if c.Expires, err = o.Int("exp"); err != nil {
		return c, err
	}
	if _, err := nonceBytes(c.Nonce); err != nil {
		return c, err
	}
	if o.Has("roles") {
		if c.Roles, err = o.Strings("roles"); err != nil {
			return c, err
		}
		if len(c.Roles) == 0 || len(c.Roles) > maxRoles {
			return c, fmt.Errorf("roles has %d values: 1 to %d are read, and one that is empty stands for no role", len(c.Roles), maxRoles)
		}
	}
	if o.Has("via") {
		if c.Via, err = o.String("via"); err != nil {
			return c, err
		}
		if _, err := workload("via", c.Via); err != nil {
			return c, err
		}
	}
	if o.Has("ath") {
		if c.Token, err = o.String("ath"); err != nil {
			return c, err
		}
	}
	return c, readMetadata(o, &c)
}

// maxID is how long a SPIFFE ID is at most, in bytes (SPIFFE-ID §2.3).
const maxID = 2048

// workload reads a claim that is the SPIFFE ID of a workload, in its one spelling.
func workload(name, text string) (spiffeid.ID, error) {
	id, err := spiffeid.FromString(text)
	if err != nil || len(text) > maxID || id.Path() == "" || id.String() != text {
		return spiffeid.ID{}, fmt.Errorf("the claim %s is not the SPIFFE ID of a workload", name)
	}
	return id, nil
}

func readStrings(o jws.Object, fields map[string]*string) (err error) {
	for name, to := range fields {
		if *to, err = o.String(name); err != nil {
			return err
		}
	}
	return nil
}

func readMetadata(o jws.Object, c *claims) (err error) {
	if o.Has("mdk") != o.Has("mdh") {
		return errors.New("mdk and mdh go together")
	}
	if !o.Has("mdk") {
		return nil
	}
	if c.Names, err = o.Strings("mdk"); err != nil {
		return err
	}
	if len(c.Names) == 0 {
		return errors.New("mdk is empty")
	}
	for i, name := range c.Names {
		if !coverable(name) || i > 0 && name <= c.Names[i-1] {
			return errors.New("mdk is not a sorted list of names that a proof covers")
		}
	}
	c.Metadata, err = o.String("mdh")
	return err
}

// nonceBytes decodes a nonce: base64url of exactly 16 bytes. Whether they are random nobody can tell from one of them: a
// signer that does not draw them at random finds its second request refused as a replay, and harms nobody else.
func nonceBytes(text string) (nonce [16]byte, err error) {
	if len(text) != 22 {
		return nonce, errors.New("jti is not 16 bytes in base64url")
	}
	if n, err := encoding.Decode(nonce[:], []byte(text)); err != nil || n != len(nonce) {
		return nonce, errors.New("jti is not 16 bytes in base64url")
	}
	return nonce, nil
}

// checkLife tells whether a proof is made for as long as one may be.
func (c *claims) checkLife() error {
	if c.Expires <= c.Issued || c.Expires-c.Issued > int64(maxLife/time.Second) {
		return fmt.Errorf("it lives for %d s, 1 to 60 are accepted", c.Expires-c.Issued)
	}
	return nil
}

// checkTime tells whether a proof is good at a time, to the second of the leeway.
func (c *claims) checkTime(now time.Time, leeway time.Duration) (feature.Verdict, string) {
	if err := c.checkLife(); err != nil {
		return feature.Invalid, err.Error()
	}
	switch {
	case time.Unix(c.Issued, 0).After(now.Add(leeway)):
		return feature.Invalid, "issued in the future: compare the clocks"
	case !now.Before(time.Unix(c.Expires, 0).Add(leeway)):
		return feature.Expired, "expired at " + time.Unix(c.Expires, 0).UTC().Format(time.RFC3339)
	}
	return feature.Good, ""
}
