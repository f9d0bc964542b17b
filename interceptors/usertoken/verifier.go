package usertoken

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	tokensv1 "example.com/rolecall/gen/tokens/v1"
	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/interceptors/internal/jws"
)

// verifier is the feature at work for one guard. Safe for concurrent use.
type verifier struct {
	cfg      Config
	pace     pace
	env      feature.Env
	issuer   string // the tokens service; empty: there is none
	audience string

	cache    *cache
	revoked  *revocations
	own      *ownKeys // nil without a tokens service, like ownRing and follower
	ownRing  *keyring
	follower *follower
	others   map[string]*other

	conn    *grpc.ClientConn
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
	metrics metric.Registration
	results [feature.Unavailable + 1][2]atomic.Int64 // by verdict, and whether the token was remembered
}

// other is another issuer.
type other struct {
	issuer Issuer
	keys   *otherKeys
	ring   *keyring
}

// start puts a verifier to work. It reads files, and waits for nobody.
func start(cfg Config, pace pace, env feature.Env) (*verifier, error) {
	v := &verifier{
		cfg: cfg, pace: pace, env: env, audience: env.TrustDomain.IDString(),
		cache: newCache(cfg.CacheSize),
		// A token may be dated ahead by the leeway, and is good for as much after its end.
		revoked: newRevocations(cfg.MaxLife + 2*cfg.Leeway),
		others:  map[string]*other{},
	}
	v.ctx, v.cancel = context.WithCancel(context.Background())
	if err := v.begin(); err != nil {
		return nil, errors.Join(err, v.Close())
	}
	return v, nil
}

func (v *verifier) begin() error {
	for _, issuer := range v.cfg.Others {
		if err := v.addOther(issuer); err != nil {
			return fmt.Errorf("issuer %q: %w", issuer.URL, err)
		}
	}
	if v.cfg.Target != "" {
		if err := v.connect(); err != nil {
			return err
		}
	}
	if err := v.observe(); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	v.keep()
	return nil
}

func (v *verifier) addOther(issuer Issuer) error {
	keys, err := newOtherKeys(issuer, v.env.Now, v.cache.purge)
	if err != nil {
		return err
	}
	o := &other{issuer, keys, &keyring{keySource: keys, ctx: v.ctx, interval: v.pace.refetch, timeout: v.pace.fetch}}
	v.others[issuer.URL] = o
	if issuer.JWKSFile != "" {
		return o.ring.refetch() // a file that is not there is a mistake; a server may be down
	}
	return nil
}

// connect makes the client of the tokens service and follows its revocations.
func (v *verifier) connect() error {
	// gRPC's own two minutes between attempts would leave a service that has come back unnoticed.
	again := backoff.Config{BaseDelay: v.pace.redial, Multiplier: 1.6, Jitter: 0.2, MaxDelay: v.pace.most}
	conn, err := v.env.NewClient(v.cfg.Target, v.cfg.Server, grpc.WithConnectParams(grpc.ConnectParams{Backoff: again, MinConnectTimeout: 5 * time.Second}))
	if err != nil {
		return fmt.Errorf("client of the tokens service: %w", err)
	}
	client := tokensv1.NewTokensServiceClient(conn)
	v.conn, v.issuer = conn, v.cfg.Server.String()
	v.own = &ownKeys{
		env: v.env, server: v.cfg.Server, leeway: v.cfg.Leeway, life: v.cfg.MaxLife + v.cfg.Leeway,
		client: client, purge: v.cache.purge,
	}
	v.ownRing = &keyring{keySource: v.own, ctx: v.ctx, interval: v.pace.refetch, timeout: v.pace.fetch}
	v.follower = &follower{
		client: client, revoked: v.revoked, install: v.own.install, now: v.env.Now, log: v.env.Log, pace: v.pace, began: time.Now(),
		tried: make(chan struct{}),
	}
	v.running.Go(func() { v.follower.run(v.ctx) })
	return nil
}

// Close implements feature.Running.
func (v *verifier) Close() error {
	v.cancel()
	v.running.Wait()
	for _, o := range v.others {
		o.keys.close()
	}
	var err error
	if v.metrics != nil {
		err = v.metrics.Unregister()
	}
	if v.conn != nil {
		err = errors.Join(err, v.conn.Close())
	}
	return err
}

// LoginMethod implements feature.Users.
func (v *verifier) LoginMethod() string {
	if v.own == nil {
		return ""
	}
	return tokensv1.TokensService_Login_FullMethodName
}

// Verify implements feature.Users. It waits for nobody, but for keys that the token names and that are not known, and for the
// end of the first attempt to hear of revocations.
func (v *verifier) Verify(text string) (*feature.User, feature.Verdict, string) {
	sum := tokenSum(sha256.Sum256([]byte(text)))
	if u := v.cache.get(sum); u != nil {
		verdict := v.Standing(u)
		v.results[verdict][1].Add(1)
		if verdict != feature.Good {
			return nil, verdict, "a token of " + u.Subject
		}
		return u, feature.Good, ""
	}
	age := v.cache.age()
	u, verdict, detail := v.verify(text)
	if u != nil && verdict == feature.Good {
		u.Token = text
		v.cache.put(sum, u, age)
		if u.Own {
			v.follower.settled(v.pace.fetch)
		}
		// What was revoked while the signature was checked is revoked, and what is revoked already need not be checked again.
		if verdict = v.Standing(u); verdict != feature.Good {
			detail = "a token of " + u.Subject
		}
	}
	v.results[verdict][0].Add(1)
	if verdict != feature.Good {
		return nil, verdict, detail
	}
	return u, feature.Good, ""
}

// verify checks everything but whether the token was revoked.
func (v *verifier) verify(text string) (*feature.User, feature.Verdict, string) {
	if len(v.others) > 0 {
		if token, err := jws.ParseOther(text, feature.MaxToken); err == nil {
			if issuer, err := token.Issuer(); err == nil && v.others[issuer] != nil {
				return v.verifyOther(v.others[issuer], token)
			}
		}
	}
	token, err := jws.Parse(text, feature.MaxToken)
	switch {
	case err != nil:
		return nil, feature.Invalid, err.Error()
	case v.own == nil:
		return nil, feature.Invalid, "of an issuer that is not configured"
	case token.Type != accessToken || token.Algorithm != "ES256":
		// Looked at first, so that such a token fetches no keys.
		return nil, feature.Invalid, fmt.Sprintf("typ %.40q and alg %.40q, not %s and ES256", token.Type, token.Algorithm, accessToken)
	}
	if issuer, err := token.Issuer(); err != nil {
		return nil, feature.Invalid, err.Error()
	} else if issuer != v.issuer {
		return nil, feature.Invalid, "of an issuer that is not configured"
	}
	drops := v.own.drops.Load() // before the key is looked up
	key, verdict, detail := v.ownRing.find(token.KeyID)
	if verdict != feature.Good {
		return nil, verdict, detail
	}
	claims, err := token.Verify(key, accessToken)
	if err != nil {
		return nil, feature.Invalid, err.Error()
	}
	u, verdict, detail := v.ownUser(claims)
	if u != nil {
		u.Vouched = drops
	}
	return u, verdict, detail
}

func (v *verifier) verifyOther(o *other, token *jws.Token) (*feature.User, feature.Verdict, string) {
	if token.Type != o.issuer.Type {
		return nil, feature.Invalid, fmt.Sprintf("the type is %.40q, not %s", token.Type, o.issuer.Type)
	}
	key, verdict, detail := o.ring.find(token.KeyID)
	if verdict != feature.Good {
		return nil, verdict, detail
	}
	claims, err := token.Verify(key, o.issuer.Type)
	if err != nil {
		return nil, feature.Invalid, err.Error()
	}
	return v.otherUser(o.issuer, claims)
}

// Standing implements feature.Users. It takes no lock and allocates nothing.
func (v *verifier) Standing(u *feature.User) feature.Verdict {
	switch {
	case !v.env.Now().Before(u.Expires.Add(v.cfg.Leeway)):
		return feature.Expired
	case !u.Own:
		return feature.Good // of another issuer: nobody says what that revokes
	case !v.follower.complete.Load(), v.own.drops.Load() != u.Vouched:
		return feature.Unavailable
	case v.revoked.hit(u):
		return feature.Revoked
	}
	return feature.Good
}
