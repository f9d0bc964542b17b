//go:build linux || darwin

package agentd

import (
	"context"
	"crypto/x509"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/pki"
	"example.com/rolecall/pki/agent"
)

// config returns the configuration of an agent /agent/host1 with its credential and bundle in a folder of its own.
func (f *fakeAuthority) config(t *testing.T) Config {
	t.Helper()
	dir, err := os.MkdirTemp("", "agentd") // t.TempDir makes paths that are too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	c := Config{TrustDomain: f.ca.TrustDomain(), Credential: filepath.Join(dir, "agent.pem"), Bundle: filepath.Join(dir, "bundle.pem"),
		Authority: f.target, AuthorityID: f.ca.ID("/service/authority"), Socket: filepath.Join(dir, "agent.sock"),
		Control: filepath.Join(dir, "control.sock"), Entries: filepath.Join(dir, "entries.yaml"), Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	leaf, key := f.ca.IssueUnder(f.issuer, f.key, "/agent/host1")
	if err := pki.WriteCredential(c.Credential, []*x509.Certificate{leaf, f.issuer}, key); err != nil {
		t.Fatal(err)
	}
	if err := pki.WriteBundle(c.Bundle, f.ca.Bundle()); err != nil {
		t.Fatal(err)
	}
	return c
}

// run runs an agent until stop is called or the test is over.
func run(t *testing.T, c Config) (stop func()) {
	t.Helper()
	ready := make(chan struct{})
	c.Ready = func() { close(ready) }
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, c) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("the agent did not start: %v", err)
	case <-time.After(patience):
		t.Fatal("the agent is not ready")
	}
	return stop
}

// register registers this process with the agent.
func register(t *testing.T, c Config, path string) {
	t.Helper()
	id, err := c.TrustDomain.ID(), error(nil)
	if id, err = id.AppendPath(path); err != nil {
		t.Fatal(err)
	}
	registered, err := agent.Register(t.Context(), c.Control, agent.Registration{ID: id, PID: os.Getpid()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = registered.Close()
		<-registered.Gone()
	})
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	began := time.Now()
	for !holds() {
		if time.Since(began) > patience {
			t.Fatalf("%s: not after %s", what, patience)
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Logf("%s: after %s", what, time.Since(began).Round(time.Millisecond))
}

func TestAnAgentThatCannotStartSaysWhy(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	other, missing, entries, federated := f.config(t), f.config(t), f.config(t), f.config(t)
	other.TrustDomain = spiffeid.RequireTrustDomainFromString("other.local")
	missing.Credential += ".none"
	write(t, entries.Entries, "entries: [{spiffeId: spiffe://evil.local/x, selectors: ['unix:uid:0']}]")
	federated.Federated = []Federated{{TrustDomain: federated.TrustDomain, File: federated.Bundle}}
	for _, c := range []struct {
		name, want string
		config     Config
	}{
		{"another trust domain", "of the trust domain other.local", other},
		{"no credential", "no such file", missing},
		{"bad entries", "not of the trust domain", entries},
		{"a federated bundle for the own trust domain", "own trust domain", federated},
	} {
		if err := Run(t.Context(), c.config); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", c.name, err, c.want)
		}
	}
}
