// Package probe asks one server for its health, for `rolecall probe`: an exec probe of an orchestrator, or a person.
//
//	answer, err := probe.Run(ctx, probe.Config{Target: "127.0.0.1:7445", Service: "ledger"})
package probe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/catalog"
	"example.com/rolecall/internal/certfile"
	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/health"
)

// Config says whom to ask, and as whom.
type Config struct {
	Target string // HOST:PORT or a gRPC target
	// ID is the SPIFFE ID that the server must prove to have, and Service the NAME of spiffe://<own trust domain>/service/NAME.
	// If both are empty it is the prober's own ID, as in a probe that runs beside the server.
	ID, Service string
	// Cert, Key and Bundle are PEM files; all empty: the Workload API at SPIFFE_ENDPOINT_SOCKET.
	Cert, Key, Bundle string
}

// Answer is what the server said.
type Answer struct {
	SPIFFEID     string  `json:"spiffe_id"` // which it has proved to have
	Status       string  `json:"status"`    // as grpc.health.v1 names it
	Milliseconds float64 `json:"took_ms"`
}

// Serving tells whether the server does its work.
func (a *Answer) Serving() bool { return a.Status == healthv1.HealthCheckResponse_SERVING.String() }

// Run asks once, and waits for the answer until ctx ends. The error is a *cli.UsageError if the configuration cannot be meant.
func Run(ctx context.Context, c Config) (answer *Answer, err error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	source, err := c.source(ctx)
	if err != nil {
		return nil, err
	}
	server, err := c.server(source)
	if err != nil {
		return nil, err
	}
	guard, err := interceptors.New(source, nil, interceptors.Audit(slog.DiscardHandler), interceptors.Logger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, guard.Close()) }()
	said, err := health.Check(ctx, guard, c.Target, server)
	if err != nil {
		return nil, fmt.Errorf("%s at %s does not answer: %w", server, c.Target, err)
	}
	return &Answer{SPIFFEID: server.String(), Status: said.Status.String(), Milliseconds: float64(said.Took.Microseconds()) / 1000}, nil
}

// check refuses what can be seen to be wrong before anybody is asked.
func (c *Config) check() error {
	if c.ID != "" && c.Service != "" {
		return cli.Usagef("--id and --service both say who the server is: give one of them")
	}
	if c.ID != "" {
		if id, err := spiffeid.FromString(c.ID); err != nil || id.Path() == "" {
			return cli.Usagef("--id %q: the SPIFFE ID of a workload is needed, such as spiffe://mesh.local/service/ledger", c.ID)
		}
	}
	if c.Service != "" {
		if err := spiffeid.ValidatePathSegment(c.Service); err != nil {
			return cli.Usagef("--service %q: %w", c.Service, err)
		}
	}
	return nil
}

// server returns the ID that the server must prove to have.
func (c *Config) server(source interceptors.Source) (spiffeid.ID, error) {
	own, err := source.GetX509SVID()
	if err != nil {
		return spiffeid.ID{}, fmt.Errorf("read the own certificate: %w", err)
	}
	switch {
	case c.Service != "":
		return catalog.ID(own.ID.TrustDomain(), c.Service), nil
	case c.ID == "":
		return own.ID, nil
	}
	id, err := spiffeid.FromString(c.ID)
	if err == nil && id.TrustDomain() != own.ID.TrustDomain() {
		err = cli.Usagef("--id %s: the prober is of the trust domain %s and can verify no server of another", id, own.ID.TrustDomain())
	}
	return id, err
}

func (c *Config) source(ctx context.Context) (interceptors.Source, error) {
	switch given := (c.Cert != "") == (c.Key != "") && (c.Key != "") == (c.Bundle != ""); {
	case !given:
		return nil, cli.Usagef("--cert, --key and --bundle go together: give all three, or none and set %s", workloadapi.SocketEnv)
	case c.Cert != "":
		return certfile.Open(c.Cert, c.Key, c.Bundle)
	}
	address, ok := workloadapi.GetDefaultAddress()
	if !ok || address == "" {
		return nil, cli.Usagef("no identity to ask with: set %s to the socket of a Workload API, or give --cert, --key and --bundle", workloadapi.SocketEnv)
	}
	if err := workloadapi.ValidateAddress(address); err != nil {
		return nil, cli.Usagef("%s=%s: %w", workloadapi.SocketEnv, address, err)
	}
	fetched, err := workloadapi.FetchX509Context(ctx)
	if err != nil {
		return nil, fmt.Errorf("get a certificate from the Workload API at %s (is the agent running, and does it know this process?): %w", address, err)
	}
	return snapshot{fetched}, nil
}

// snapshot is what the Workload API answered once: a probe is over before it could change.
type snapshot struct{ *workloadapi.X509Context }

// GetX509SVID returns the first certificate that was offered.
func (s snapshot) GetX509SVID() (*x509svid.SVID, error) { return s.DefaultSVID(), nil }

// GetX509BundleForTrustDomain returns the roots of a trust domain.
func (s snapshot) GetX509BundleForTrustDomain(td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	return s.Bundles.GetX509BundleForTrustDomain(td)
}
