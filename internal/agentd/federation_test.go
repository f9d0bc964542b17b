//go:build linux || darwin

package agentd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/workloadapi"

	"example.com/rolecall/pki"
	"example.com/rolecall/rolecalltest"
)

// partner is another trust domain with a bundle endpoint.
type partner struct {
	ca     *rolecalltest.CA
	url    string
	id     spiffeid.ID
	answer atomic.Pointer[http.HandlerFunc]
}

func startPartner(t *testing.T) *partner {
	t.Helper()
	p := &partner{ca: rolecalltest.NewCA(t, "partner.example")}
	p.id = p.ca.ID("/bundle")
	p.url = serveTLS(t, tlsconfig.TLSServerConfig(p.ca.Source("/bundle")), func(w http.ResponseWriter, r *http.Request) {
		(*p.answer.Load())(w, r)
	})
	return p
}

// serveTLS serves until the test is over and returns the URL.
func serveTLS(t *testing.T, config *tls.Config, handler http.HandlerFunc) string {
	t.Helper()
	lis, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	server := http.Server{Handler: handler, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), ReadHeaderTimeout: patience}
	done := make(chan error, 1)
	go func() { done <- server.Serve(lis) }()
	t.Cleanup(func() { _ = server.Close(); <-done })
	return "https://" + lis.Addr().String()
}

func (p *partner) document(t *testing.T, sequence uint64, roots *x509bundle.Bundle) []byte {
	t.Helper()
	data, err := pki.EncodeBundleDocument(roots, jwtbundle.New(roots.TrustDomain()), sequence, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func (p *partner) says(data []byte) {
	p.answers(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(data) })
}

func (p *partner) answers(h http.HandlerFunc) { p.answer.Store(&h) }

// member returns the partner as a member with the bundle of its file at hand.
func (p *partner) member(t *testing.T, sequence uint64) (*member, *atomic.Pointer[[]*spiffebundle.Bundle]) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "partner.json")
	if err := os.WriteFile(file, p.document(t, sequence, p.ca.Bundle()), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := newFederation([]Federated{{TrustDomain: p.ca.TrustDomain(), File: file, URL: p.url, EndpointID: p.id}},
		spiffeid.RequireTrustDomainFromString("mesh.local"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var told atomic.Pointer[[]*spiffebundle.Bundle]
	f.tell(func(all []*spiffebundle.Bundle) { told.Store(&all) })
	return f.members[0], &told
}

func TestABundleEndpointIsAskedAndItsAnswerIsKept(t *testing.T) {
	t.Parallel()
	p := startPartner(t)
	m, told := p.member(t, 5)
	next := p.ca.Bundle()
	next.AddX509Authority(rolecalltest.NewCA(t, "partner.example").Root())
	p.says(p.document(t, 6, next))
	if err := m.ask(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := m.bundle().X509Bundle(); len(got.X509Authorities()) != 2 || len(*told.Load()) != 1 {
		t.Errorf("%d roots are at hand, want 2", len(got.X509Authorities()))
	}
	again, err := os.ReadFile(m.File)
	if err != nil {
		t.Fatal(err)
	}
	if written, err := parseForeign(m.TrustDomain, again); err != nil || !written.Equal(m.bundle()) {
		t.Errorf("the file holds another bundle (error %v): a restart would begin with an old one", err)
	}
	p.says([]byte(`{"keys":[],"spiffe_sequence":7,"spiffe_refresh_hint":60}`)) // all keys taken back
	if err := m.ask(t.Context()); err != nil || !m.bundle().Empty() {
		t.Errorf("an empty bundle: %v", err)
	}
}

func TestAttacksByABundleEndpoint(t *testing.T) {
	t.Parallel()
	p := startPartner(t)
	evil := rolecalltest.NewCA(t, "partner.example").Bundle()
	web := serveTLS(t, webCertificate(t), func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(p.document(t, 9, evil)) })
	for _, c := range []struct {
		attack string
		mount  func(m *member)
		want   string
	}{
		{"sequence number going backwards", func(*member) { p.says(p.document(t, 4, evil)) }, "goes back"},
		{"no sequence number any more", func(*member) { p.says([]byte(`{"keys":[]}`)) }, "goes back"},
		{"duplicate JSON keys in a bundle map", func(*member) {
			p.says([]byte(strings.Replace(string(p.document(t, 9, evil)), `"keys"`, `"keys":[],"keys"`, 1)))
		}, "twice"},
		{"more than a megabyte", func(*member) {
			p.answers(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, pki.MaxBundleDocument+1)) })
		}, "more than 1048576 bytes"},
		{"no bundle", func(*member) { p.says([]byte("<html>")) }, "bundle document"},
		{"a redirect", func(*member) {
			p.answers(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, p.url+"/x", http.StatusFound) })
		}, "redirects"},
		{"an error page", func(*member) {
			p.answers(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
		}, "500"},
		{"an endpoint with another SPIFFE ID", func(m *member) {
			p.says(p.document(t, 9, evil))
			m.EndpointID = p.ca.ID("/other")
		}, "unexpected ID"},
		{"an endpoint whose root is not in the bundle", func(m *member) {
			p.says(p.document(t, 9, evil))
			m.home.put(spiffebundle.FromX509Bundle(evil))
		}, "unknown authority"},
		{"an endpoint of the Web", func(m *member) { m.URL = web }, "no URI SAN"},
	} {
		m, _ := p.member(t, 5)
		c.mount(m)
		before := m.bundle()
		if err := m.ask(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) || m.bundle() != before {
			t.Errorf("%s: %v, want the bundle to stay, and an error with %q", c.attack, err, c.want)
		}
	}
}

// The partner's old key was stolen. Its thief holds an answer back while the operator replaces the file.
func TestAttackAnAnswerThatIsHeldBackWhileTheOperatorReplacesTheFile(t *testing.T) {
	t.Parallel()
	for name, seen := range map[string]bool{"the agent has seen the file": true, "the agent has not seen the file yet": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startPartner(t)
			m, _ := p.member(t, 5)
			evil := p.ca.Bundle()
			evil.AddX509Authority(rolecalltest.NewCA(t, "partner.example").Root())
			clean := rolecalltest.NewCA(t, "partner.example").Bundle()
			p.answers(func(w http.ResponseWriter, _ *http.Request) {
				put(t, m.File, p.document(t, 6, clean))
				if seen {
					m.file.readAgain()
				}
				_, _ = w.Write(p.document(t, 7, evil))
			})
			if err := m.ask(t.Context()); err == nil || !strings.Contains(err.Error(), "by hand") {
				t.Errorf("ask: %v, want an error", err)
			}
			written, err := parseForeign(m.TrustDomain, read(t, m.File))
			if err != nil || !written.X509Bundle().Equal(clean) {
				t.Errorf("the operator's file is undone (error %v)", err)
			}
			if !m.bundle().X509Bundle().Equal(clean) {
				t.Error("the bundle of the operator's file is not in force")
			}
		})
	}
}

// webCertificate is that of a host, without a SPIFFE ID.
func webCertificate(t *testing.T) *tls.Config {
	t.Helper()
	leaf, key := rolecalltest.NewCA(t, "partner.example").Issue("/x", func(c *x509.Certificate) { c.URIs, c.DNSNames = nil, []string{"localhost"} })
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}}, MinVersion: tls.VersionTLS13}
}

func TestFederationsThatCannotBeAreRefused(t *testing.T) {
	t.Parallel()
	own, other := spiffeid.RequireTrustDomainFromString("mesh.local"), spiffeid.RequireTrustDomainFromString("partner.example")
	id := spiffeid.RequireFromPath(other, "/bundle")
	good := Federated{TrustDomain: other, File: "f", URL: "https://partner.example:8443/bundle", EndpointID: id}
	with := func(change func(*Federated)) []Federated {
		f := good
		change(&f)
		return []Federated{f}
	}
	for _, c := range []struct {
		name string
		all  []Federated
		want string
	}{
		{"a good one", []Federated{good}, ""},
		{"a file alone", []Federated{{TrustDomain: other, File: "f"}}, ""},
		{"the own trust domain", with(func(f *Federated) { f.TrustDomain = own }), "own trust domain"},
		{"no trust domain", with(func(f *Federated) { f.TrustDomain = spiffeid.TrustDomain{} }), "trust domain is needed"},
		{"no file", with(func(f *Federated) { f.File = "" }), "a file"},
		{"a URL without an ID", with(func(f *Federated) { f.EndpointID = spiffeid.ID{} }), "go together"},
		{"an ID without a URL", with(func(f *Federated) { f.URL = "" }), "go together"},
		{"an endpoint of the own trust domain", with(func(f *Federated) { f.EndpointID = spiffeid.RequireFromPath(own, "/x") }), "not that of a workload"},
		{"plain text", with(func(f *Federated) { f.URL = "http://partner.example" }), "https://"},
		{"a password in the URL", with(func(f *Federated) { f.URL = "https://a:b@partner.example" }), "https://"},
		{"the same twice", []Federated{good, good}, "twice"},
	} {
		_, err := newFederation(c.all, own, slog.New(slog.DiscardHandler))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", c.name, err, c.want)
		}
	}
}

func TestWorkloadsAreGivenFederatedBundlesOfFileAndEndpoint(t *testing.T) {
	t.Parallel()
	f, p := startFake(t), startPartner(t)
	p.says(p.document(t, 6, p.ca.Bundle()))
	friend := rolecalltest.NewCA(t, "friend.example")
	c := f.config(t)
	dir := filepath.Dir(c.Credential)
	pem, document := filepath.Join(dir, "friend.pem"), filepath.Join(dir, "partner.json")
	if err := errors.Join(pki.WriteBundle(pem, friend.Bundle()), os.WriteFile(document, p.document(t, 5, p.ca.Bundle()), 0o600)); err != nil {
		t.Fatal(err)
	}
	c.Federated = []Federated{{TrustDomain: friend.TrustDomain(), File: pem},
		{TrustDomain: p.ca.TrustDomain(), File: document, URL: p.url, EndpointID: p.id}}
	run(t, c)
	register(t, c, "/service/ledger")
	client, err := workloadapi.New(t.Context(), workloadapi.WithAddr("unix://"+c.Socket))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	set, err := client.FetchX509Bundles(ctx)
	if err != nil || set.Len() != 3 {
		t.Fatalf("bundles %v (error %v), want three", set, err)
	}
	// A workload verifies a partner's certificate with what it was given.
	config := tlsconfig.TLSClientConfig(set, tlsconfig.AuthorizeID(p.id))
	conn, err := tls.Dial("tcp", strings.TrimPrefix(p.url, "https://"), config)
	if err != nil {
		t.Errorf("connect to the partner with the bundles of the Workload API: %v", err)
	} else {
		_ = conn.Close()
	}
	next := p.ca.Bundle()
	next.AddX509Authority(rolecalltest.NewCA(t, "partner.example").Root())
	p.says(p.document(t, 7, next))
	eventually(t, "the endpoint's new bundle", func() bool {
		set, err := client.FetchX509Bundles(ctx)
		if err != nil {
			return false
		}
		got, err := set.GetX509BundleForTrustDomain(p.ca.TrustDomain())
		return err == nil && len(got.X509Authorities()) == 2
	})
}
