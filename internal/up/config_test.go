package up

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/internal/catalog"
	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/mesh"
)

func newDir(t *testing.T) mesh.Dir {
	t.Helper()
	dir, err := mesh.Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestValuesThatCannotBeMeantAreWrongUsage(t *testing.T) {
	t.Parallel()
	good := func() Config {
		return Config{Dir: "mesh", BasePort: 7440, LeafTTL: 24 * time.Hour, IssuerTTL: 7 * 24 * time.Hour}
	}
	tests := map[string]struct {
		change func(*Config)
		want   string
	}{
		"a negative port":                          {func(c *Config) { c.BasePort = -1 }, "--base-port -1"},
		"a port that leaves no room above it":      {func(c *Config) { c.BasePort = 65500 }, "--base-port 65500"},
		"a port of the system":                     {func(c *Config) { c.BasePort = 80 }, "below 1024"},
		"a trust domain in upper case":             {func(c *Config) { c.TrustDomain = "Mesh.Local" }, "--trust-domain"},
		"a trust domain with a port":               {func(c *Config) { c.TrustDomain = "mesh.local:80" }, "--trust-domain"},
		"an endpoint without a port":               {func(c *Config) { c.BundleEndpoint = "localhost" }, "--bundle-endpoint"},
		"access tokens that live too long":         {func(c *Config) { c.AccessTTL = time.Hour }, "--access-ttl 1h"},
		"access tokens that live half a second":    {func(c *Config) { c.AccessTTL = 500 * time.Millisecond }, "--access-ttl 500ms"},
		"leaves that live too short":               {func(c *Config) { c.LeafTTL = time.Second }, "--leaf-ttl 1s"},
		"leaves that outlive a sixth of an issuer": {func(c *Config) { c.LeafTTL = 48 * time.Hour }, "--issuer-ttl"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := good()
			tt.change(&c)
			err := c.Check()
			var usage *cli.UsageError
			if !errors.As(err, &usage) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want a usage error that says %q", err, tt.want)
			}
		})
	}
	c := good()
	if err := c.Check(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
}

func TestFreePortsAreGivenToEveryServiceTwice(t *testing.T) {
	t.Parallel()
	given, release, err := (&Config{}).ports()
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	var all []int
	for _, name := range catalog.Names() {
		all = append(all, given[name].service, given[name].admin)
	}
	slices.Sort(all)
	if slices.Contains(all, 0) || len(slices.Compact(all)) != 2*len(catalog.Names()) {
		t.Errorf("ports %v: want two of its own for each of %v", all, catalog.Names())
	}
}

func TestNoCommandLineHoldsTheDatabasesPassword(t *testing.T) {
	t.Parallel()
	const secret = "correct-horse"
	r := &run{config: Config{Database: "postgres://rolecall:" + secret + "@localhost/rolecall"}, dir: newDir(t)}
	if err := r.database(); err != nil {
		t.Fatal(err)
	}
	given, release, err := r.config.ports()
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	p := &plan{dir: r.dir, td: spiffeid.RequireTrustDomainFromString("mesh.local"), ports: given, url: true, leafTTL: time.Hour}
	for _, s := range catalog.Services() {
		args := strings.Join(p.serveArgs(s), " ")
		if strings.Contains(args, secret) {
			t.Errorf("everybody on this machine may read the password in: %s", args)
		}
		if s.Database != strings.Contains(args, "--database-file "+r.dir.DatabaseURL()) {
			t.Errorf("%s keeps a database: %t; its command line: %s", s.Name, s.Database, args)
		}
	}
	if info, err := os.Stat(r.dir.DatabaseURL()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("file of the URL: %v, %v; want mode 0600", info, err)
	}

	p.endpoint, p.federate = "127.0.0.1:8443", []string{"other.example=/other.json", "third.example=/third.json"}
	if args := strings.Join(p.serveArgs(catalog.Services()[0]), " "); !strings.Contains(args, "--bundle-endpoint 127.0.0.1:8443") {
		t.Errorf("the authority's command line: %s", args)
	}
	if args := strings.Join(p.agentArgs(), " "); !strings.Contains(args, "--federate other.example=/other.json --federate third.example=/third.json") {
		t.Errorf("the agent's command line: %s", args)
	}

	r.config.Database = ""
	if err := r.database(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(r.dir.DatabaseURL()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the URL stays when it is no longer used: %v", err)
	}
}
