package usertoken_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/usertoken"
	"example.com/rolecall/rolecalltest"
)

func TestAGuardIsNotMadeWithAConfigurationThatCannotBeMeant(t *testing.T) {
	t.Parallel()
	ca := rolecalltest.NewCA(t, "mesh.local")
	missing := filepath.Join(t.TempDir(), "missing.json")
	noPEM := filepath.Join(t.TempDir(), "ca.pem")
	must(t, os.WriteFile(noPEM, []byte("no certificate"), 0o600))
	good := usertoken.Config{Target: "localhost:1", Server: ca.ID(tokensPath)}
	other := usertoken.Issuer{URL: company, Audience: audience, JWKSURL: "https://localhost:1/keys"}
	with := func(change func(*usertoken.Config)) usertoken.Config {
		c := good
		change(&c)
		return c
	}
	issuer := func(change func(*usertoken.Issuer)) usertoken.Config {
		o := other
		change(&o)
		return usertoken.Config{Others: []usertoken.Issuer{o}}
	}
	for _, c := range []struct {
		name, want string
		config     usertoken.Config
	}{
		{"nothing", "no issuer", usertoken.Config{}},
		{"no server", "give both", usertoken.Config{Target: "localhost:1"}},
		{"no target", "give both", usertoken.Config{Server: good.Server}},
		{"a server of another trust domain", "own trust domain", with(func(c *usertoken.Config) {
			c.Server = spiffeid.RequireFromString("spiffe://other.local/service/tokens")
		})},
		{"a server without a path", "own trust domain", with(func(c *usertoken.Config) { c.Server = ca.TrustDomain().ID() })},
		{"a life of two hours", "MaxLife", with(func(c *usertoken.Config) { c.MaxLife = 2 * time.Hour })},
		{"a life of half a second", "MaxLife", with(func(c *usertoken.Config) { c.MaxLife = time.Second / 2 })},
		{"a leeway of two minutes", "Leeway", with(func(c *usertoken.Config) { c.Leeway = 2 * time.Minute })},
		{"a leeway below nothing", "Leeway", with(func(c *usertoken.Config) { c.Leeway = -time.Second })},
		{"a cache of 15", "CacheSize", with(func(c *usertoken.Config) { c.CacheSize = 15 })},
		{"a cache of ten million", "CacheSize", with(func(c *usertoken.Config) { c.CacheSize = 10_000_000 })},
		{"the same issuer twice", "configured twice", usertoken.Config{Others: []usertoken.Issuer{other, other}}},
		{"another issuer that is the tokens service", "configured twice", with(func(c *usertoken.Config) {
			o := other
			o.URL = good.Server.String()
			c.Others = []usertoken.Issuer{o}
		})},
		{"nine issuers", "8 at most", usertoken.Config{Others: make([]usertoken.Issuer, 9)}},
		{"an issuer without a URL", "URL and Audience", issuer(func(o *usertoken.Issuer) { o.URL = "" })},
		{"an issuer that calls itself a SPIFFE ID", "https URL", issuer(func(o *usertoken.Issuer) { o.URL = "spiffe://company.example/idp" })},
		{"an issuer over http", "https URL", issuer(func(o *usertoken.Issuer) { o.URL = "http://login.company.example" })},
		{"an issuer without a host", "https URL", issuer(func(o *usertoken.Issuer) { o.URL = "https:///login" })},
		{"an issuer with a user in the URL", "https URL", issuer(func(o *usertoken.Issuer) { o.URL = "https://me:secret@login.company.example" })},
		{"an issuer with a query", "https URL", issuer(func(o *usertoken.Issuer) { o.URL = company + "?tenant=1" })},
		{"an issuer with a fragment", "https URL", issuer(func(o *usertoken.Issuer) { o.URL = company + "#alice" })},
		{"an issuer without an audience", "URL and Audience", issuer(func(o *usertoken.Issuer) { o.Audience = "" })},
		{"an issuer without keys", "either JWKSFile or JWKSURL", issuer(func(o *usertoken.Issuer) { o.JWKSURL = "" })},
		{"an issuer with two sources of keys", "either JWKSFile or JWKSURL", issuer(func(o *usertoken.Issuer) { o.JWKSFile = "keys.json" })},
		{"keys over http", "https", issuer(func(o *usertoken.Issuer) { o.JWKSURL = "http://localhost/keys" })},
		{"keys with a user in the URL", "https", issuer(func(o *usertoken.Issuer) { o.JWKSURL = "https://me:secret@localhost/keys" })},
		{"a file of keys that is not there", "missing.json", issuer(func(o *usertoken.Issuer) { o.JWKSURL, o.JWKSFile = "", missing })},
		{"a file of roots that is not there", "missing.json", issuer(func(o *usertoken.Issuer) { o.CAFile = missing })},
		{"a file of roots without one", "no certificate in PEM", issuer(func(o *usertoken.Issuer) { o.CAFile = noPEM })},
		{"a life of two days", "MaxLife", issuer(func(o *usertoken.Issuer) { o.MaxLife = 48 * time.Hour })},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			guard, err := interceptors.New(ca.Source(shopPath), nil, quiet(), interceptors.With(usertoken.New(c.config)))
			if err == nil {
				t.Fatal(guard.Close())
			}
			if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
				t.Errorf("error %v, want %q in it", err, c.want)
			}
		})
	}
}

func TestTwoFeaturesForOneAnnotationAreRefused(t *testing.T) {
	t.Parallel()
	ca := rolecalltest.NewCA(t, "mesh.local")
	config := usertoken.Config{Target: "localhost:1", Server: ca.ID(tokensPath)}
	_, err := interceptors.New(ca.Source(shopPath), nil, interceptors.With(usertoken.New(config)), interceptors.With(usertoken.New(config)))
	if err == nil || !strings.Contains(err.Error(), "two features enforce requires_user") {
		t.Errorf("error %v", err)
	}
	if _, err := interceptors.New(ca.Source(shopPath), nil, interceptors.With(nil)); err == nil {
		t.Error("a nil feature was taken")
	}
}

func TestAServerWithMethodsForUsersDoesNotStartWithoutTheFeature(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	guard := m.newGuard(m.ca.Source("/service/plain"), interceptors.BindingsYAML([]byte(roles)), quiet())
	server := guard.NewServer()
	m.shop.register(t, server)
	err := server.Serve(listen(t))
	if err == nil || !strings.Contains(err.Error(), `needs the feature "usertoken"`) {
		t.Errorf("Serve: %v", err)
	}
}

func TestMetricsTellHowOldTheViewIsAndWhatWasVerified(t *testing.T) {
	t.Parallel()
	reader := sdkmetric.NewManualReader()
	m := newMesh(t, func(c *meshConfig) {
		c.options = []interceptors.Option{interceptors.Meter(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)))}
	})
	collect := func() map[string]int64 {
		var all metricdata.ResourceMetrics
		must(t, reader.Collect(t.Context(), &all))
		got := map[string]int64{}
		for _, scope := range all.ScopeMetrics {
			for _, metric := range scope.Metrics {
				var points []metricdata.DataPoint[int64]
				switch data := metric.Data.(type) {
				case metricdata.Sum[int64]:
					points = data.DataPoints
				case metricdata.Gauge[int64]:
					points = data.DataPoints
				}
				for _, p := range points {
					if strings.HasPrefix(metric.Name, "rolecall.user_tokens.") {
						got[strings.TrimPrefix(metric.Name, "rolecall.user_tokens.")+" "+p.Attributes.Encoded(attribute.DefaultEncoder())] = p.Value
					}
				}
			}
		}
		return got
	}
	token := m.tokens.mint("alice", nil)
	for range 3 {
		m.feature.verify(token)
	}
	m.feature.verify("nonsense")
	m.tokens.revoke(sessionRevoked("session-of-alice"))
	m.revokedSoonQuietly()
	want := map[string]int64{
		"view_age ": 0, "revocations ": 1, "cached ": 1,
		"verifications cached=false,result=good": 1, "verifications cached=true,result=good": 2, "verifications cached=false,result=invalid": 1,
	}
	var diff string
	eventually(t, "view of this second, and what was counted", func() bool { diff = cmp.Diff(want, collect()); return diff == "" },
		func() any { return "want (-), got (+):\n" + diff })
	must(t, m.guard.Close())
	if got := collect(); len(got) != 0 {
		t.Errorf("a closed guard still publishes %v", got)
	}
}

// revokedSoonQuietly waits for a revocation without a verification.
func (m *mesh) revokedSoonQuietly() {
	eventually(m.t, "a revocation", func() bool { return usertoken.Revocations(m.feature.running) > 0 })
}
