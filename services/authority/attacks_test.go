package authority_test

import (
	"bytes"
	"crypto"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc/status"

	authorityv1 "example.com/rolecall/gen/authority/v1"
	"example.com/rolecall/internal/node"
	"example.com/rolecall/services/authority"
)

// attack is a request that must be refused: with this code and reason, for what these words say, and without a signature.
type attack struct {
	name, verdict, says string
}

// attacks is what the authority must withstand. Each must be mounted by TestAttacksOnTheAuthority.
var attacks = []attack{
	{"the agent asks for an operator's ID", "InvalidArgument INVALID_FIELD", "not an identity that requesters may ask for"},
	{"the agent asks for the authority's own ID", "InvalidArgument INVALID_FIELD", "not an identity that requesters may ask for"},
	{"the agent asks for an ID of another form", "InvalidArgument INVALID_FIELD", "not an identity that requesters may ask for"},
	{"the agent asks for a deeper path", "InvalidArgument INVALID_FIELD", "not an identity that requesters may ask for"},
	{"the agent asks for the DNS name of another service", "InvalidArgument INVALID_FIELD", "may not have the DNS name ledger"},
	{"the agent asks for a DNS name of the world", "InvalidArgument INVALID_FIELD", "may not have the DNS name www.example.com"},
	{"the agent asks for two labels where one is allowed", "InvalidArgument INVALID_FIELD", "may not have the DNS name a.b.example.org"},
	{"the agent asks for an address that is not loopback", "InvalidArgument INVALID_FIELD", "may not have the IP address 10.0.0.1"},
	{"a service without the role asks for another's ID", "PermissionDenied ROLE_REQUIRED", "lacks a role"},
	{"a service without the role asks for the authority's ID", "PermissionDenied ROLE_REQUIRED", "lacks a role"},
	{"an operator without the role asks for a service's ID", "PermissionDenied ROLE_REQUIRED", "lacks a role"},
	{"a renewal over the same key", "InvalidArgument INVALID_FIELD", "a renewal needs a new key"},
	{"a renewal with one DNS name more", "InvalidArgument INVALID_FIELD", "has not the DNS name ledger"},
	{"a renewal with one address more", "InvalidArgument INVALID_FIELD", "has not the IP address 127.0.0.1"},
	{"the authority's agent renews with one name more", "InvalidArgument INVALID_FIELD", "has not the DNS name localhost"},
	{"an oversized CSR that is well formed", "InvalidArgument INVALID_FIELD", "16384 at most"},
	{"a megabyte of zeros", "InvalidArgument INVALID_FIELD", "16384 at most"},
	{"rubbish", "InvalidArgument INVALID_FIELD", "not a PKCS#10 request"},
	{"no CSR at all", "InvalidArgument INVALID_FIELD", "csr"},
}

func TestAttacksOnTheAuthority(t *testing.T) {
	t.Parallel()
	var log logged
	r := open(t, func(c *node.Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	agent, ledger, alice := r.caller(t, "/service/agent"), r.caller(t, "/service/ledger", "localhost"), r.caller(t, "/operator/alice")
	many := make([]string, 1000)
	for i := range many {
		many[i] = fmt.Sprintf("eu%d.example.org", i)
	}
	type mount struct {
		from caller
		csr  []byte
	}
	ask := func(from caller, key crypto.Signer, path string, dns []string, ips ...net.IP) mount {
		return mount{from, csr(t, key, path, dns, ips...)}
	}
	mounts := map[string]mount{
		"the agent asks for an operator's ID":                    ask(agent, nil, "/operator/alice", nil),
		"the agent asks for the authority's own ID":              ask(agent, nil, "/service/authority", nil),
		"the agent asks for an ID of another form":               ask(agent, nil, "/ns/x/sa/y", nil),
		"the agent asks for a deeper path":                       ask(agent, nil, "/service/billing/x", nil),
		"the agent asks for the DNS name of another service":     ask(agent, nil, "/service/billing", []string{"ledger"}),
		"the agent asks for a DNS name of the world":             ask(agent, nil, "/service/billing", []string{"www.example.com"}),
		"the agent asks for two labels where one is allowed":     ask(agent, nil, "/service/billing", []string{"a.b.example.org"}),
		"the agent asks for an address that is not loopback":     ask(agent, nil, "/service/billing", nil, net.IPv4(10, 0, 0, 1)),
		"a service without the role asks for another's ID":       ask(ledger, nil, "/service/billing", nil),
		"a service without the role asks for the authority's ID": ask(ledger, nil, "/service/authority", nil),
		"an operator without the role asks for a service's ID":   ask(alice, nil, "/service/billing", nil),
		"a renewal over the same key":                            ask(ledger, ledger.PrivateKey, "/service/ledger", []string{"localhost"}),
		"a renewal with one DNS name more":                       ask(ledger, nil, "/service/ledger", []string{"localhost", "ledger"}),
		"a renewal with one address more":                        ask(ledger, nil, "/service/ledger", []string{"localhost"}, net.IPv4(127, 0, 0, 1)),
		"the authority's agent renews with one name more":        ask(agent, nil, "/service/agent", []string{"localhost"}),
		"an oversized CSR that is well formed":                   ask(agent, nil, "/service/billing", many),
		"a megabyte of zeros":                                    {agent, make([]byte, 1<<20)},
		"rubbish":                                                {agent, []byte("hello")},
		"no CSR at all":                                          {agent, nil},
	}
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			m, ok := mounts[a.name]
			if !ok {
				t.Fatal("no test mounts this attack")
			}
			delete(mounts, a.name)
			before := log.signatures()
			response, err := r.client(t, m.from).IssueCertificate(within(t), &authorityv1.IssueCertificateRequest{Csr: m.csr})
			if got := verdict(err); got != a.verdict || !strings.Contains(status.Convert(err).Message(), a.says) {
				t.Errorf("got %s (%v), want %s that says %q", got, err, a.verdict, a.says)
			}
			if len(response.GetChain()) > 0 || log.signatures() > before {
				t.Errorf("the authority signed: answered %v, and its log is\n%s", response, log.text())
			}
		})
	}
	for name := range mounts {
		t.Errorf("%s: mounted, and not in the table of attacks", name)
	}
	// What the log would have said: the same with nothing wrong.
	m := ask(agent, nil, "/service/billing", []string{"localhost"})
	if _, err := r.client(t, m.from).IssueCertificate(within(t), &authorityv1.IssueCertificateRequest{Csr: m.csr}); err != nil || log.signatures() != 1 {
		t.Errorf("a request that may be made: %v, %d signatures in the log, want 1", err, log.signatures())
	}
}

// An operator may be named by no pattern, not even by one that fits every path.
func TestAttackOperatorsByAPatternOfStars(t *testing.T) {
	t.Parallel()
	r := openWith(t, authority.Config{Allow: []string{"/*/*"}})
	_, err := r.client(t, r.caller(t, "/service/agent")).IssueCertificate(within(t),
		&authorityv1.IssueCertificateRequest{Csr: csr(t, nil, "/operator/alice", nil)})
	if got := verdict(err); got != "InvalidArgument INVALID_FIELD" {
		t.Errorf("got %s (%v), want a refusal", got, err)
	}
}

// logged keeps what a log says. Safe for concurrent use.
type logged struct {
	mu   sync.Mutex
	data bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.data.Write(p)
}

func (l *logged) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.data.String()
}

func (l *logged) signatures() int { return strings.Count(l.text(), `msg="certificate signed"`) }
