package probe_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/leaktest"
	"example.com/rolecall/internal/probe"
	"example.com/rolecall/pki"
	"example.com/rolecall/rolecalltest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// serve runs a server that is /service/ledger.
func serve(t *testing.T, ca *rolecalltest.CA, status healthv1.HealthCheckResponse_ServingStatus) string {
	t.Helper()
	guard, err := interceptors.New(ca.Source("/service/ledger"), interceptors.BindingsYAML([]byte("trustDomain: mesh.local\n")),
		interceptors.Audit(slog.DiscardHandler), interceptors.Logger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	server := guard.NewServer()
	h := health.NewServer()
	h.SetServingStatus("", status)
	healthv1.RegisterHealthServer(server, h)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(lis) }()
	t.Cleanup(func() {
		server.Stop()
		<-served
		if err := guard.Close(); err != nil {
			t.Error(err)
		}
	})
	return lis.Addr().String()
}

// files writes a certificate, its key and the bundle, and returns a configuration that names them.
func files(t *testing.T, ca *rolecalltest.CA, path string) probe.Config {
	t.Helper()
	svid, err := ca.Source(path).GetX509SVID()
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := svid.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c := probe.Config{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), Bundle: filepath.Join(dir, "bundle.pem")}
	for file, data := range map[string][]byte{c.Cert: cert, c.Key: key, c.Bundle: pki.EncodeBundle(ca.Bundle())} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func TestAProbeSaysWhatTheServerSays(t *testing.T) {
	t.Parallel()
	ca := rolecalltest.NewCA(t, "mesh.local")
	serving := serve(t, ca, healthv1.HealthCheckResponse_SERVING)
	for _, test := range []struct {
		name    string
		prober  string
		change  func(*probe.Config)
		serving bool
		want    string // of the error; "" for none
	}{
		{"found by its name", "/operator/carol", func(c *probe.Config) { c.Service = "ledger" }, true, ""},
		{"found by its ID", "/operator/carol", func(c *probe.Config) { c.ID = "spiffe://mesh.local/service/ledger" }, true, ""},
		{"which has the prober's own ID", "/service/ledger", func(*probe.Config) {}, true, ""},
		{"which says that it is not serving", "/operator/carol", func(c *probe.Config) {
			c.Service, c.Target = "ledger", serve(t, ca, healthv1.HealthCheckResponse_NOT_SERVING)
		}, false, ""},
		{"which proves to be another", "/operator/carol", func(c *probe.Config) { c.Service = "users" }, false, "not spiffe://mesh.local/service/users"},
		{"which is not there", "/operator/carol", func(c *probe.Config) { c.Service, c.Target = "ledger", "127.0.0.1:1" }, false, "does not answer"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := files(t, ca, test.prober)
			c.Target = serving
			test.change(&c)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			answer, err := probe.Run(ctx, c)
			switch {
			case test.want == "" && (err != nil || answer.Serving() != test.serving):
				t.Errorf("got %+v, %v; want serving = %v", answer, err, test.serving)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %+v, %v; want an error with %q", answer, err, test.want)
			}
		})
	}
}

func TestAServerThatIsSilentIsGivenUpInTime(t *testing.T) {
	t.Parallel()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	c := files(t, rolecalltest.NewCA(t, "mesh.local"), "/operator/carol")
	c.Service, c.Target = "ledger", lis.Addr().String()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err = probe.Run(ctx, c)
	t.Logf("given up after %s", time.Since(began).Round(time.Millisecond))
	if err == nil || time.Since(began) > 10*time.Second {
		t.Errorf("got %v after %s, want an error soon after 200ms", err, time.Since(began))
	}
}

func TestAProbeRefusesWhatCannotBeMeant(t *testing.T) {
	t.Setenv("SPIFFE_ENDPOINT_SOCKET", "")
	ca := rolecalltest.NewCA(t, "mesh.local")
	for _, test := range []struct {
		name   string
		change func(*probe.Config)
		want   string
	}{
		{"both names of the server", func(c *probe.Config) { c.ID, c.Service = "spiffe://mesh.local/service/a", "a" }, "give one of them"},
		{"an ID that is none", func(c *probe.Config) { c.ID = "ledger" }, "--id"},
		{"an ID without a path", func(c *probe.Config) { c.ID = "spiffe://mesh.local" }, "--id"},
		{"an ID of another trust domain", func(c *probe.Config) { c.ID = "spiffe://other/service/a" }, "trust domain"},
		{"a name that is a path", func(c *probe.Config) { c.Service = "a/b" }, "--service"},
		{"a certificate without its key", func(c *probe.Config) { c.Key = "" }, "go together"},
		{"no identity at all", func(c *probe.Config) { *c = probe.Config{Target: c.Target} }, "SPIFFE_ENDPOINT_SOCKET"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := files(t, ca, "/operator/carol")
			c.Target = "127.0.0.1:1"
			test.change(&c)
			_, err := probe.Run(t.Context(), c)
			var usage *cli.UsageError
			if !errors.As(err, &usage) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want a usage error with %q", err, test.want)
			}
		})
	}
}
