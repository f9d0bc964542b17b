package main

import (
	"context"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/interceptors/exactlyonce"
	"example.com/rolecall/internal/catalog"
	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/node"
	"example.com/rolecall/internal/supervisor"
	"example.com/rolecall/internal/up"
	"example.com/rolecall/pki"
	"example.com/rolecall/services/authority"
	"example.com/rolecall/services/keys"
	"example.com/rolecall/services/ledger"
	"example.com/rolecall/services/orders"
	"example.com/rolecall/services/tokens"
	"example.com/rolecall/services/users"
)

// setup returns how a service is set up that has no identity of its own making.
func (s *serveFlags) setup(name string) func(context.Context, *node.Node) error {
	return map[string]func(context.Context, *node.Node) error{
		"users":        users.Setup,
		catalog.Tokens: tokens.New(s.tokens),
		catalog.Keys:   keys.Setup,
		"ledger":       ledger.Setup,
		"orders":       orders.Setup,
	}[name]
}

// serveFlags are what a command line says about a service.
type serveFlags struct {
	node         node.Config
	id           string
	peers        []string
	databaseFile string
	authority    authority.Config
	tokens       tokens.Config
}

func (a *app) serveCommand() *cobra.Command {
	var flags serveFlags
	c := &cobra.Command{
		Use:   "serve SERVICE",
		Short: "Run one service: " + strings.Join(catalog.Names(), ", "),
		Long: `Runs one service until it is told to end, and then lets the calls in flight finish.

Its certificate comes from the SPIFFE Workload API that SPIFFE_ENDPOINT_SOCKET names: rolecall's agent or SPIRE's. Only the
authority needs none: it signs its own, and --ca names the folder of its issuers. Services that are called on behalf of
users verify access tokens with what the peer tokens tells them. Those that sign requests or take signed ones find keys by the
peer keys; without it they take what their peers have signed themselves, and nothing that is passed on. Audit records and the log go to standard error, a JSON object on each line.`,
		Example: `  rolecall serve ledger --listen 127.0.0.1:7445 --admin 127.0.0.1:7545 --roles roles.yaml --data /var/lib/ledger
  rolecall serve orders --listen 127.0.0.1:7446 --roles roles.yaml --data /var/lib/orders \
    --peer users=dns:///users:7443,spiffe://mesh.local/service/users \
    --peer ledger=dns:///ledger:7445,spiffe://mesh.local/service/ledger \
    --peer tokens=dns:///tokens:7444,spiffe://mesh.local/service/tokens \
    --peer keys=dns:///keys:7442,spiffe://mesh.local/service/keys
  rolecall serve authority --listen 127.0.0.1:7441 --roles roles.yaml --ca /var/lib/authority \
    --registrations registrations.yaml --bundle-endpoint 0.0.0.0:8443`,
		Args:      cobra.ExactArgs(1),
		ValidArgs: catalog.Names(),
		RunE: func(c *cobra.Command, args []string) error {
			service, err := catalog.Named(args[0])
			if err != nil {
				return cli.Usagef("%w", err)
			}
			ctx, err := supervisor.Attach(c.Context())
			if err != nil {
				return err
			}
			return flags.serve(ctx, service)
		},
	}
	f := c.Flags()
	f.StringVar(&flags.node.Listen, "listen", "", "HOST:PORT of the gRPC server (needed)")
	f.StringVar(&flags.node.Admin, "admin", "", "loopback HOST:PORT of /healthz, /readyz and /metrics (default: not served)")
	f.BoolVar(&flags.node.Pprof, "pprof", false, "serve /debug/pprof at --admin too")
	f.StringVar(&flags.node.Roles, "roles", "", "path of roles.yaml (needed)")
	f.StringVar(&flags.id, "id", "", "own SPIFFE ID, where the Workload API offers several (default: the one with the path /service/SERVICE)")
	f.StringArrayVar(&flags.peers, "peer", nil, "NAME=TARGET,SPIFFE-ID of a service that this one calls; once for each")
	f.StringVar(&flags.node.Dir, "data", ".", "folder for the service's files")
	f.StringVar(&flags.node.Database, "database", "", "postgres:// URL or path of an SQLite file (default: SERVICE.db in --data)")
	f.StringVar(&flags.databaseFile, "database-file", "", databaseFileUsage)
	f.BoolVar(&flags.node.AuditAllowed, "audit-allowed", false, "record calls that were allowed too")
	f.DurationVar(&flags.node.Grace, "grace", 15*time.Second, "how long calls in flight may take at the end")
	f.StringVar(&flags.authority.Dir, "ca", "", "authority only: folder with bundle.pem, credential and issuers/")
	f.StringVar(&flags.authority.Credential, "credential", "", "authority only: file that opens the issuers' keys, where it is not in --ca, as systemd's LoadCredential= hands it over")
	f.StringVar(&flags.authority.Registrations, "registrations", "", "authority only: registrations.yaml, which says what each requester may ask for (default: what --allow says, to all)")
	f.StringVar(&flags.authority.Endpoint, "bundle-endpoint", "", "authority only: HOST:PORT at which other trust domains read the bundle (profile https_spiffe; default: not served)")
	f.DurationVar(&flags.authority.LeafLife, "leaf-ttl", pki.DefaultLeafLife, "authority only: life of the certificates that it signs")
	f.StringArrayVar(&flags.authority.Allow, "allow", nil, `authority only: path of SPIFFE IDs that requesters may ask for, "*" is one segment (default: /service/*)`)
	f.DurationVar(&flags.tokens.AccessLife, "access-ttl", 0, "tokens only: life of the access tokens that it gives out, 1s to 10m (default 10m)")
	c.MarkFlagsMutuallyExclusive("database", "database-file")
	c.MarkFlagsMutuallyExclusive("registrations", "allow")
	return c
}

func (s *serveFlags) serve(ctx context.Context, service catalog.Service) error {
	cfg, name := s.node, service.Name
	cfg.Name = name
	cfg.Log = slog.New(slog.NewJSONHandler(os.Stderr, nil))
	if cfg.Listen == "" || cfg.Roles == "" {
		return cli.Usagef("--listen HOST:PORT and --roles PATH are needed; see 'rolecall serve --help'")
	}
	err := s.only(name)
	if err != nil {
		return err
	}
	if s.id != "" {
		if cfg.ID, err = spiffeid.FromString(s.id); err != nil {
			return cli.Usagef("--id %q: %w", s.id, err)
		}
	}
	if cfg.Peers, err = parsePeers(s.peers); err != nil {
		return err
	}
	if err := verifyUsers(&cfg, service); err != nil {
		return err
	}
	if service.ExactlyOnce() {
		cfg.Once = &exactlyonce.Config{}
	}
	findKeys(&cfg, service)
	if cfg.Database, err = databaseURL(cfg.Database, s.databaseFile); err != nil {
		return err
	}
	if name != "authority" {
		return node.Run(ctx, cfg, s.setup(name))
	}
	if s.authority.Dir == "" {
		return cli.Usagef("--ca DIR is needed: the folder with bundle.pem, credential and issuers/")
	}
	s.authority.Log = cfg.Log
	if endpoint := s.authority.Endpoint; endpoint != "" {
		if _, port, err := net.SplitHostPort(endpoint); err != nil || port == "" {
			return cli.Usagef("--bundle-endpoint %q: HOST:PORT is needed, such as 0.0.0.0:8443", endpoint)
		}
	}
	signer, err := authority.Open(s.authority)
	if err != nil {
		return err
	}
	cfg.Source = signer.Source()
	return node.Run(ctx, cfg, signer.Setup)
}

// only refuses flags that another service understands.
func (s *serveFlags) only(name string) error {
	if name != "authority" {
		if err := s.authorityOnly(name); err != nil {
			return err
		}
	}
	return s.tokensOnly(name)
}

// authorityOnly refuses what only the authority understands: a flag that does nothing is a mistake of whoever gave it.
func (s *serveFlags) authorityOnly(name string) error {
	for flag, given := range map[string]bool{
		"--ca": s.authority.Dir != "", "--credential": s.authority.Credential != "", "--registrations": s.authority.Registrations != "",
		"--bundle-endpoint": s.authority.Endpoint != "", "--allow": len(s.authority.Allow) > 0,
	} {
		if given {
			return cli.Usagef("%s is for the authority, and %s is another service: leave it away", flag, name)
		}
	}
	return nil
}

// tokensOnly refuses what only the service tokens understands, or does not.
func (s *serveFlags) tokensOnly(name string) error {
	life := s.tokens.AccessLife
	switch {
	case life == 0:
		return nil
	case name != catalog.Tokens:
		return cli.Usagef("--access-ttl is for %s, and %s is another service: leave it away", catalog.Tokens, name)
	}
	return up.CheckAccessTTL(life)
}

// verifyUsers has the service verify access tokens, if it was told of the service tokens.
func verifyUsers(cfg *node.Config, service catalog.Service) error {
	tokens, told := cfg.Peers[catalog.Tokens]
	switch {
	case !service.Users:
	case told:
		cfg.Tokens = &tokens
	case service.RequiresUser():
		return cli.Usagef("%s has methods that are called on behalf of users, and verifies their access tokens: give --peer tokens=dns:///HOST:PORT,spiffe://TRUST-DOMAIN/service/tokens", service.Name)
	}
	return nil
}

// findKeys has the service sign requests and verify signed ones: of others than its peers, if it was told of the service keys.
func findKeys(cfg *node.Config, service catalog.Service) {
	if !service.Proofs {
		return
	}
	keys := cfg.Peers[catalog.Keys]
	cfg.Keys = &keys
}

// parsePeers reads NAME=TARGET,SPIFFE-ID.
func parsePeers(flags []string) (map[string]node.Peer, error) {
	peers := map[string]node.Peer{}
	for _, flag := range flags {
		name, rest, named := strings.Cut(flag, "=")
		comma := strings.LastIndex(rest, ",")
		if !named || name == "" || comma < 1 {
			return nil, cli.Usagef("--peer %q: the form is NAME=TARGET,SPIFFE-ID, ledger=dns:///ledger:7445,spiffe://mesh.local/service/ledger", flag)
		}
		id, err := spiffeid.FromString(rest[comma+1:])
		if err != nil {
			return nil, cli.Usagef("--peer %q: %w", flag, err)
		}
		if _, twice := peers[name]; twice {
			return nil, cli.Usagef("--peer %s: given twice", name)
		}
		peers[name] = node.Peer{Target: rest[:comma], ID: id}
	}
	return peers, nil
}
