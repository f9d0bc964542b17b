package authority_test

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"

	authorityv1 "example.com/rolecall/gen/authority/v1"
	"example.com/rolecall/pki"
	"example.com/rolecall/services/authority"
)

// Who may not is in attacks_test.go.
func TestWhoMayHaveWhichCertificate(t *testing.T) {
	t.Parallel()
	r := open(t)
	agent, ledger := r.caller(t, "/service/agent"), r.caller(t, "/service/ledger", "localhost")
	loopback := []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	for _, c := range []struct {
		name string
		from caller
		csr  []byte
	}{
		{"the agent asks for a service", agent, csr(t, nil, "/service/billing", []string{"localhost"}, loopback...)},
		{"the agent asks for a service by its names", agent, csr(t, nil, "/service/billing", []string{"billing", "billing.mesh.local", "eu.example.org"})},
		{"the agent renews itself", agent, csr(t, nil, "/service/agent", nil)},
		{"a service renews itself", ledger, csr(t, nil, "/service/ledger", []string{"localhost"})},
		{"an operator renews herself", r.caller(t, "/operator/alice"), csr(t, nil, "/operator/alice", nil)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			response, err := r.client(t, c.from).IssueCertificate(within(t), &authorityv1.IssueCertificateRequest{Csr: c.csr})
			if err != nil {
				t.Fatal(err)
			}
			checkResponse(t, response, c.csr)
		})
	}
}

// verdict is a code and the reason of its ErrorInfo.
func verdict(err error) string {
	s := status.Convert(err)
	text := s.Code().String()
	for _, detail := range s.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			text += " " + info.GetReason()
		}
	}
	return text
}

func checkResponse(t *testing.T, response *authorityv1.IssueCertificateResponse, csr []byte) {
	t.Helper()
	asked, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		t.Fatal(err)
	}
	chain := parse(t, response.GetChain())
	if len(chain) != 2 || !chain[0].PublicKey.(*ecdsa.PublicKey).Equal(asked.PublicKey) {
		t.Fatalf("chain of %d certificates, or over another key", len(chain))
	}
	if diff := cmp.Diff(asked.DNSNames, chain[0].DNSNames); diff != "" {
		t.Errorf("DNS names (-want +got):\n%s", diff)
	}
	bundle, err := pki.NewBundle(parse(t, response.GetRoots()))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := x509svid.Verify(chain, bundle); err != nil {
		t.Errorf("go-spiffe does not verify the chain: %v", err)
	}
	if got := response.GetNotAfter().AsTime(); !got.Equal(chain[0].NotAfter) {
		t.Errorf("not_after %s, the certificate says %s", got, chain[0].NotAfter)
	}
}

func parse(t *testing.T, der [][]byte) []*x509.Certificate {
	t.Helper()
	certs, err := x509.ParseCertificates(slices.Concat(der...))
	if err != nil {
		t.Fatal(err)
	}
	return certs
}

func TestTheAuthorityShowsACertificateThatItSignedItself(t *testing.T) {
	t.Parallel()
	r := open(t)
	who := r.caller(t, "/service/agent")
	conn, err := tls.Dial("tcp", r.service.Addr, &tls.Config{ //nolint:gosec // the chain is looked at below
		InsecureSkipVerify: true, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: [][]byte{who.Certificates[0].Raw, who.Certificates[1].Raw}, PrivateKey: who.PrivateKey}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	shown := conn.ConnectionState().PeerCertificates
	id, _, err := x509svid.Verify(shown, r.issuers.Bundle())
	if err != nil || id.Path() != "/service/authority" {
		t.Errorf("shows %s, %v", id, err)
	}
	if got := time.Until(shown[0].NotAfter); got < 23*time.Hour || got > 24*time.Hour+time.Minute {
		t.Errorf("its certificate lives another %s, want about a day", got)
	}
}

func TestConfigurationsThatAreRefused(t *testing.T) {
	t.Parallel()
	common.open(t)
	dir := common.authority()
	for name, c := range map[string]authority.Config{
		"no directory":                    {},
		"operators on request":            {Dir: dir, Allow: []string{"/operator/*"}},
		"a pattern that is no path":       {Dir: dir, Allow: []string{"service/*"}},
		"a pattern inside of a segment":   {Dir: dir, Allow: []string{"/service/a*"}},
		"a pattern with an empty part":    {Dir: dir, Allow: []string{"/service//x"}},
		"certificates of a second's life": {Dir: dir, LeafLife: time.Second},
		"tickets on request":              {Dir: dir, Allow: []string{"/join/*"}},
		"agents on request":               {Dir: dir, Allow: []string{"/agent/host2"}},
		"a credential that is not there":  {Dir: dir, Credential: filepath.Join(dir, "none")},
		"a file and a list":               {Dir: dir, Registrations: filepath.Join(dir, "r.yaml"), Allow: []string{"/service/x"}},
	} {
		if a, err := authority.Open(c); err == nil {
			t.Errorf("%s: opened %v, want a refusal", name, a)
		}
	}
}

// As systemd hands a credential over: in a folder that is not the authority's.
func TestTheCredentialMayLieElsewhere(t *testing.T) {
	t.Parallel()
	dir, elsewhere := copyOfCommon(t), filepath.Join(t.TempDir(), "issuer-credential")
	if err := os.Rename(filepath.Join(dir, "credential"), elsewhere); err != nil {
		t.Fatal(err)
	}
	if _, err := authority.Open(authority.Config{Dir: dir}); err == nil {
		t.Error("opened without its credential")
	}
	if _, err := authority.Open(authority.Config{Dir: dir, Credential: elsewhere}); err != nil {
		t.Error(err)
	}
}
