// Package up brings a whole mesh up on one machine, for development and demonstration: `rolecall up`. It makes the
// certificate authority, the sample bindings, operators and users, starts the authority, the agent and every service as a
// process of its own, keeps them running, renews what has to be renewed, writes mesh.json once everything is SERVING, and
// takes all of it down again.
//
//	err := up.Run(ctx, up.Config{Dir: ".rolecall", BasePort: 7440, Executable: exe, Out: out})
//
// In production each of these processes is started by whatever starts processes there, with the same commands, and the
// root's key is nowhere near them.
package up

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/internal/catalog"
	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/mesh"
	"example.com/rolecall/pki"
)

// DefaultTrustDomain is that of a mesh for which no other was named.
const DefaultTrustDomain = "mesh.local"

// Config says how to bring the mesh up. All fields but TrustDomain, AccessTTL, Database, Federate, BundleEndpoint and Kill must be set.
type Config struct {
	Dir      string
	BasePort int // services at BasePort+1 and up, their admin addresses 100 further; 0: free ports
	// TrustDomain is the name of the trust domain; empty: that of the folder's root, DefaultTrustDomain for a new one.
	TrustDomain string
	LeafTTL     time.Duration
	IssuerTTL   time.Duration
	// AccessTTL is how long access tokens of users live, 1 second to 10 minutes; 0: 10 minutes.
	AccessTTL time.Duration
	Database  string // a postgres:// URL for all services; empty: an SQLite file for each
	// AuditAllowed records calls that were allowed too, not only those denied.
	AuditAllowed bool
	// Federate are other trust domains, each as the agent's --federate takes it, with absolute paths.
	Federate []string
	// BundleEndpoint is the HOST:PORT at which other trust domains read this one's bundle; empty: none.
	BundleEndpoint string
	Executable     string // of rolecall, which every process of the mesh runs
	Out            *cli.Output
	// Kill, once closed, ends what does not end by itself at once: the second Ctrl-C.
	Kill <-chan struct{}
}

// Check refuses values that cannot be meant, before anything is made.
func (c *Config) Check() error {
	highest := 0
	for _, s := range catalog.Services() {
		highest = max(highest, s.Offset+catalog.AdminOffset)
	}
	switch {
	case c.BasePort < 0 || c.BasePort > 65535-highest:
		return cli.Usagef("--base-port %d: 1 to %d, or 0 for free ports", c.BasePort, 65535-highest)
	case c.BasePort > 0 && c.BasePort < 1024:
		return cli.Usagef("--base-port %d: ports below 1024 belong to the system; 1024 to %d, or 0 for free ports", c.BasePort, 65535-highest)
	}
	if c.TrustDomain != "" {
		if _, err := spiffeid.TrustDomainFromString(c.TrustDomain); err != nil {
			return cli.Usagef("--trust-domain %q: %w", c.TrustDomain, err)
		}
	}
	if c.BundleEndpoint != "" {
		if _, port, err := net.SplitHostPort(c.BundleEndpoint); err != nil || port == "" {
			return cli.Usagef("--bundle-endpoint %q: HOST:PORT is needed, such as 127.0.0.1:8443", c.BundleEndpoint)
		}
	}
	if err := pki.CheckLives(c.LeafTTL, c.IssuerTTL); err != nil {
		return cli.Usagef("--leaf-ttl %s with --issuer-ttl %s: %w", c.LeafTTL, c.IssuerTTL, err)
	}
	return CheckAccessTTL(c.AccessTTL)
}

// CheckAccessTTL refuses a life that access tokens cannot have. 0 is the service's own choice.
func CheckAccessTTL(life time.Duration) error {
	if life != 0 && (life < time.Second || life > 10*time.Minute || life%time.Second != 0) {
		return cli.Usagef("--access-ttl %s: whole seconds from 1s to 10m", life)
	}
	return nil
}

// trustDomain settles the trust domain: the one asked for, else that of the root that is there, else the default.
func (c *Config) trustDomain(d mesh.Dir) (spiffeid.TrustDomain, error) {
	there, err := pki.ReadBundle(d.AuthorityBundle())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		name := c.TrustDomain
		if name == "" {
			name = DefaultTrustDomain
		}
		return spiffeid.TrustDomainFromString(name)
	case err != nil:
		return spiffeid.TrustDomain{}, fmt.Errorf("read the roots of %s: %w", d.Path(), err)
	}
	td := there.TrustDomain()
	if c.TrustDomain != "" && c.TrustDomain != td.Name() {
		return td, fmt.Errorf("the root in %s is that of trust domain %s, not %s: leave --trust-domain away, or name another folder with --dir", d.Path(), td, c.TrustDomain)
	}
	return td, nil
}

// ports gives every service its two ports and looks whether they are free. Free ones are kept from others who bring up a mesh
// until release is called.
func (c *Config) ports() (given map[string]ports, release func(), err error) {
	services := catalog.Services()
	given = make(map[string]ports, len(services))
	if c.BasePort == 0 {
		free, release, err := mesh.FreePorts(2 * len(services))
		if err != nil {
			return nil, nil, err
		}
		for i, s := range services {
			given[s.Name] = ports{free[2*i], free[2*i+1]}
		}
		return given, release, nil
	}
	var uses []mesh.Use
	for _, s := range services {
		p := ports{c.BasePort + s.Offset, c.BasePort + s.Offset + catalog.AdminOffset}
		given[s.Name] = p
		uses = append(uses, mesh.Use{Name: s.Name, Port: p.service}, mesh.Use{Name: s.Name + " admin", Port: p.admin})
	}
	return given, func() {}, mesh.CheckPorts(uses)
}

type ports struct{ service, admin int }

func address(port int) string { return mesh.Use{Port: port}.Address() }

// wait is how long a process may take to do its work for the first time.
const wait = 60 * time.Second

func withWait(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, wait, fmt.Errorf("it was not ready within %s", wait))
}
