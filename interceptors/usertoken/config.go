package usertoken

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/internal/feature"
)

// Defaults of Config.
const (
	DefaultMaxLife   = 10 * time.Minute
	DefaultLeeway    = 5 * time.Second
	DefaultCacheSize = 10_000
)

// NoLeeway is the Config.Leeway that allows clocks no difference at all.
const NoLeeway = time.Duration(-1)

// Config says whose tokens are accepted.
type Config struct {
	// Target is the address of the tokens service, as grpc.NewClient takes it, and Server its SPIFFE ID, which is also the
	// issuer of its tokens. Both are empty where Others are the only issuers.
	Target string
	Server spiffeid.ID
	// MaxLife is the longest life, exp less iat, of a token of the tokens service: 1 second to 1 hour; zero is 10 minutes.
	MaxLife time.Duration
	// Leeway is by how much the clocks of issuers may differ from ours, to the second: 1 second to 1 minute, or NoLeeway;
	// zero is 5 seconds. A token is good until exp plus the leeway, and from nbf and iat less the leeway on.
	Leeway time.Duration
	// CacheSize is how many verified tokens are remembered: 16 to 1,000,000; zero is 10,000, of about 2 KB each, 16 KB at most.
	CacheSize int
	// Others are issuers beside the tokens service, 8 at most.
	Others []Issuer
}

// Issuer is another issuer of access tokens, a company's identity provider. Its tokens get the same checks, with what RFC 9068
// leaves open: the audience may be one of several, the header may hold members that mean nothing here, and client_id,
// auth_time and nbf may be absent. They cannot be revoked, they expire. Their algorithms are RS256, PS256, ES256 and ES384,
// one for each key.
type Issuer struct {
	// URL is what the claim iss says, to the letter: an https URL without user, query or fragment (RFC 8414 §2).
	URL string
	// Audience is what the claim aud must say, or hold.
	Audience string
	// JWKSFile or JWKSURL, exactly one of the two, is where the keys are. A file is read again when it changes; a URL, which
	// is https, is asked every 5 minutes, and when a token names a key that is not known.
	JWKSFile string
	JWKSURL  string
	// CAFile holds the roots, in PEM, that the URL's certificate is verified with; empty: those of the operating system.
	CAFile string
	// RolesClaim is the claim that holds the user's roles as an array of strings; empty: "roles". Users without the claim
	// have none.
	RolesClaim string
	// Type is what the header's typ must say; empty: "at+jwt".
	Type string
	// MaxLife is the longest life of a token: 1 second to 24 hours; zero is 1 hour.
	MaxLife time.Duration
}

// New makes the feature, to be given to guards with interceptors.With. What is wrong with the configuration is reported
// when a guard is made. It neither waits for the tokens service nor fails when that is down.
func New(cfg Config) interceptors.Feature { return &users{config: cfg} }

// users is the feature; each guard starts a verifier of its own.
type users struct {
	config Config
	pace   pace // zero: production's
}

// Annotations implements interceptors.Feature.
func (*users) Annotations() []string { return []string{"requires_user", "requires_user_role"} }

// Start implements interceptors.Feature.
func (u *users) Start(env feature.Env) (feature.Running, error) {
	cfg, err := u.config.checked(env.TrustDomain)
	if err != nil {
		return nil, fmt.Errorf("usertoken: %w", err)
	}
	v, err := start(cfg, u.pace.orDefault(), env)
	if err != nil {
		return nil, fmt.Errorf("usertoken: %w", err)
	}
	return v, nil
}

// checked returns the configuration with its defaults filled in, or what is wrong with it.
func (c Config) checked(own spiffeid.TrustDomain) (Config, error) {
	switch {
	case c.Target == "" && c.Server.IsZero() && len(c.Others) == 0:
		return c, errors.New("no issuer is configured: give Target and Server of the tokens service")
	case (c.Target == "") != c.Server.IsZero():
		return c, errors.New("the tokens service is given by Target and Server together: give both")
	case !c.Server.IsZero() && (c.Server.Path() == "" || !c.Server.MemberOf(own)):
		return c, fmt.Errorf("server %q is not a workload of the own trust domain %q", c.Server, own)
	case len(c.Others) > 8:
		return c, fmt.Errorf("%d other issuers, 8 at most", len(c.Others))
	}
	err := errors.Join(
		fill("MaxLife", &c.MaxLife, DefaultMaxLife, time.Second, time.Hour),
		fillLeeway(&c.Leeway),
	)
	if c.CacheSize == 0 {
		c.CacheSize = DefaultCacheSize
	}
	if c.CacheSize < 16 || c.CacheSize > 1_000_000 {
		err = errors.Join(err, fmt.Errorf("a CacheSize of %d: 16 to 1,000,000 are possible", c.CacheSize))
	}
	others, seen := make([]Issuer, 0, len(c.Others)), map[string]bool{c.Server.String(): true}
	for _, o := range c.Others {
		o, wrong := o.checked()
		if o.URL != "" && seen[o.URL] {
			wrong = errors.New("configured twice")
		}
		if wrong != nil {
			err = errors.Join(err, fmt.Errorf("issuer %q: %w", redacted(o.URL), wrong))
		}
		seen[o.URL] = true
		others = append(others, o)
	}
	c.Others = others
	return c, err
}

func (o Issuer) checked() (Issuer, error) {
	for _, field := range []struct {
		value *string
		zero  string
	}{{&o.RolesClaim, "roles"}, {&o.Type, accessToken}} {
		if *field.value == "" {
			*field.value = field.zero
		}
	}
	switch {
	case o.URL == "" || o.Audience == "":
		return o, errors.New("URL and Audience are needed")
	case (o.JWKSFile == "") == (o.JWKSURL == ""):
		return o, errors.New("give either JWKSFile or JWKSURL")
	case o.CAFile != "" && o.JWKSURL == "":
		return o, errors.New("CAFile is for JWKSURL")
	}
	if u, err := url.Parse(o.URL); err != nil || !strings.HasPrefix(o.URL, "https://") || u.Host == "" || u.User != nil || strings.ContainsAny(o.URL, "?#") {
		return o, errors.New("URL is not an https URL without user, query or fragment: write it as the claim iss has it")
	}
	if o.JWKSURL != "" {
		if u, err := url.Parse(o.JWKSURL); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
			return o, errors.New("JWKSURL is not an https URL without a user")
		}
	}
	return o, fill("MaxLife", &o.MaxLife, time.Hour, time.Second, 24*time.Hour)
}

func fill(name string, d *time.Duration, zero, least, most time.Duration) error {
	if *d == 0 {
		*d = zero
	}
	if *d < least || *d > most || *d%time.Second != 0 {
		return fmt.Errorf("a %s of %s: whole seconds from %s to %s are possible", name, *d, least, most)
	}
	return nil
}

func fillLeeway(d *time.Duration) error {
	if *d == NoLeeway {
		*d = 0
		return nil
	}
	return fill("Leeway", d, DefaultLeeway, time.Second, time.Minute)
}

// redacted returns a URL without the password that it may hold.
func redacted(text string) string {
	if u, err := url.Parse(text); err == nil {
		return u.Redacted()
	}
	return "that is not a URL"
}
