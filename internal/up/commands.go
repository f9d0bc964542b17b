package up

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/internal/catalog"
	"example.com/rolecall/internal/mesh"
)

// plan is everything that is settled before the first process starts.
type plan struct {
	dir     mesh.Dir
	td      spiffeid.TrustDomain
	ports   map[string]ports
	api     string // path of the Workload API's socket
	control string // path of the agent's control socket
	leafTTL time.Duration
	// accessTTL is how long access tokens of users live, 0: as long as the service tokens makes them.
	accessTTL time.Duration
	// federate are what the agent's --federate takes, and endpoint is the authority's --bundle-endpoint, "" for none.
	federate []string
	endpoint string
	url      bool // services read the URL of their database from the folder
	// auditAllowed has services record the calls that they allow too.
	auditAllowed bool
}

// serveArgs returns the command line of a service. No secret is in it: everybody on this machine may read it.
func (p *plan) serveArgs(s catalog.Service) []string {
	args := []string{"serve", s.Name,
		"--listen", address(p.ports[s.Name].service),
		"--admin", address(p.ports[s.Name].admin),
		"--roles", p.dir.Roles(),
	}
	if p.auditAllowed {
		args = append(args, "--audit-allowed")
	}
	if s.Name == "authority" {
		args = append(args, "--ca", p.dir.Authority(), "--leaf-ttl", p.leafTTL.String())
		if p.endpoint != "" {
			args = append(args, "--bundle-endpoint", p.endpoint)
		}
	}
	if s.Database {
		args = append(args, "--data", p.dir.Data())
		if p.url {
			args = append(args, "--database-file", p.dir.DatabaseURL())
		}
	}
	if s.Name == catalog.Tokens && p.accessTTL > 0 {
		args = append(args, "--access-ttl", p.accessTTL.String())
	}
	peers := s.Peers
	if s.Users {
		peers = append(slices.Clone(peers), catalog.Tokens)
	}
	if s.Proofs {
		peers = append(slices.Clone(peers), catalog.Keys)
	}
	for _, peer := range peers {
		args = append(args, "--peer", fmt.Sprintf("%s=dns:///%s,%s", peer, address(p.ports[peer].service), catalog.ID(p.td, peer)))
	}
	return args
}

// agentArgs returns the command line of the agent.
func (p *plan) agentArgs() []string {
	args := []string{"agent",
		"--trust-domain", p.td.Name(),
		"--authority", fmt.Sprintf("dns:///%s,%s", address(p.ports["authority"].service), catalog.ID(p.td, "authority")),
		"--credential", p.dir.AgentCredential(),
		"--bundle", p.dir.AgentBundle(),
		"--entries", p.dir.Entries(),
		"--socket", p.api,
		"--control", p.control,
	}
	for _, other := range p.federate {
		args = append(args, "--federate", other)
	}
	return args
}

// environment is that of every process: what `up` itself has, with the Workload API of this mesh in place of any other.
func (p *plan) environment() []string {
	var env []string
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "SPIFFE_ENDPOINT_SOCKET=") {
			env = append(env, entry)
		}
	}
	return append(env, "SPIFFE_ENDPOINT_SOCKET=unix://"+p.api)
}
