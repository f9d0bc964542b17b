package authority_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/federation"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/pki"
	"example.com/rolecall/services/authority"
)

func openEndpoint(t *testing.T) (r *realm, url string) {
	t.Helper()
	r = openWith(t, authority.Config{Endpoint: "127.0.0.1:0"})
	return r, "https://" + r.authority.EndpointAddr()
}

// fetch is what another trust domain does, with go-spiffe and without a certificate.
func fetch(t *testing.T, url string, trusts x509bundle.Source, id string) (string, error) {
	t.Helper()
	got, err := federation.FetchBundle(within(t), domain, url, federation.WithSPIFFEAuth(trusts, spiffeid.RequireFromString(id)))
	if err != nil {
		return "", err
	}
	sequence, _ := got.SequenceNumber()
	hint, _ := got.RefreshHint()
	return fmt.Sprintf("%d roots, %d JWT keys, hint %s, numbered %v", len(got.X509Authorities()), len(got.JWTAuthorities()), hint, sequence > 0), nil
}

func TestAnotherTrustDomainFetchesTheBundle(t *testing.T) {
	t.Parallel()
	r, url := openEndpoint(t)
	own := "spiffe://mesh.local/service/authority"
	if got, err := fetch(t, url, r.issuers.Bundle(), own); err != nil || got != "1 roots, 1 JWT keys, hint 1m0s, numbered true" {
		t.Errorf("got %s, %v", got, err)
	}
	if got, err := fetch(t, url, foreign.open(t).Issuers().Bundle(), own); err == nil {
		t.Errorf("who trusts another root got %s", got)
	}
	if got, err := fetch(t, url, r.issuers.Bundle(), "spiffe://mesh.local/service/ledger"); err == nil {
		t.Errorf("who expects another endpoint got %s", got)
	}
	before := r.document(t, url)
	if err := r.authority.Renumber(); err != nil {
		t.Fatal(err)
	}
	if after := r.document(t, url); after == before {
		t.Errorf("a new number does not show:\n%s", after)
	}
}

// document fetches the bundle as text.
func (r *realm) document(t *testing.T, url string) string {
	t.Helper()
	got, err := federation.FetchBundle(within(t), domain, url, federation.WithSPIFFEAuth(r.issuers.Bundle(), spiffeid.RequireFromPath(domain, "/service/authority")))
	if err != nil {
		t.Fatal(err)
	}
	sequence, _ := got.SequenceNumber()
	return fmt.Sprint(sequence)
}

func TestTheEndpointAnswersGetAndNothingElse(t *testing.T) {
	t.Parallel()
	_, url := openEndpoint(t)
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true} //nolint:gosec // who it is was tested above
	for _, c := range []struct {
		method, path string
		body         io.Reader
		want         int
	}{
		{http.MethodGet, "/", nil, http.StatusOK},
		{http.MethodGet, "", nil, http.StatusOK},
		{http.MethodHead, "/", nil, http.StatusMethodNotAllowed},
		{http.MethodPost, "/", strings.NewReader(strings.Repeat("x", 1<<20)), http.StatusMethodNotAllowed},
		{http.MethodDelete, "/", nil, http.StatusMethodNotAllowed},
		{http.MethodGet, "/metrics", nil, http.StatusNotFound},
		{http.MethodGet, "/../bundle.pem", nil, http.StatusNotFound},
	} {
		req, err := http.NewRequestWithContext(within(t), c.method, url+c.path, c.body)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := transport.RoundTrip(req)
		if err != nil {
			if c.body == nil { // an answer may cross with what is still being sent
				t.Errorf("%s %s: %v", c.method, c.path, err)
			}
			continue
		}
		data, _ := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if answer.StatusCode != c.want {
			t.Errorf("%s %s: got %d, want %d", c.method, c.path, answer.StatusCode, c.want)
		}
		if c.want == http.StatusOK {
			if kind := answer.Header.Get("Content-Type"); kind != "application/json" {
				t.Errorf("it is called %s", kind)
			}
			if _, err := pki.ParseBundleDocument(domain, data); err != nil {
				t.Errorf("%s\n%v", data, err)
			}
		}
	}
}

func TestTheEndpointSpeaksTLS13AndAsksForNoCertificate(t *testing.T) {
	t.Parallel()
	r, _ := openEndpoint(t)
	dial := func(version uint16, asked *bool) error {
		config := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12, MaxVersion: version, //nolint:gosec // an old client is what is tested
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				*asked = true
				return &tls.Certificate{}, nil
			}}
		conn, err := (&tls.Dialer{Config: config}).DialContext(within(t), "tcp", r.authority.EndpointAddr())
		if err == nil {
			_ = conn.Close()
		}
		return err
	}
	var asked bool
	if err := dial(tls.VersionTLS12, &asked); err == nil {
		t.Error("TLS 1.2 is spoken")
	}
	if err := dial(tls.VersionTLS13, &asked); err != nil || asked {
		t.Errorf("TLS 1.3: %v; asked for a certificate: %v", err, asked)
	}
}

// Connections that say nothing take places; the others wait for one, and get it when those are closed.
func TestTheEndpointHoldsSoManyConnectionsAndNoMore(t *testing.T) {
	t.Parallel()
	r, url := openEndpoint(t)
	var idle []net.Conn
	for range 256 {
		conn, err := net.DialTimeout("tcp", r.authority.EndpointAddr(), nodetest.Patience)
		if err != nil {
			t.Fatal(err)
		}
		idle = append(idle, conn)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	get := func(ctx context.Context) error {
		_, err := federation.FetchBundle(ctx, domain, url, federation.WithSPIFFEAuth(r.issuers.Bundle(), spiffeid.RequireFromPath(domain, "/service/authority")))
		return err
	}
	if err := get(ctx); err == nil {
		t.Error("the 257th connection was served while 256 were open")
	}
	for _, conn := range idle {
		_ = conn.Close()
	}
	if err := get(within(t)); err != nil {
		t.Errorf("after the others left: %v", err)
	}
}

func TestAnEndpointThatCannotListenIsNoStart(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	if err := run(t, authority.Config{Endpoint: taken.Addr().String()}); err == nil || !strings.Contains(err.Error(), "bundle endpoint") {
		t.Errorf("got %v, want an error that names the bundle endpoint", err)
	}
}
