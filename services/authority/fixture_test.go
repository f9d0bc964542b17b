package authority_test

import (
	"context"
	"crypto"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.uber.org/goleak"

	"example.com/rolecall/internal/leaktest"
	"example.com/rolecall/internal/node"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/pki"
	"example.com/rolecall/services/authority"
)

var domain = spiffeid.RequireTrustDomainFromString("mesh.local")

const roles = `
trustDomain: mesh.local
bindings:
  - role: authority.requester
    members: [spiffe://mesh.local/service/agent, "spiffe://mesh.local/agent/*"]
  - role: authority.admin
    members: [spiffe://mesh.local/operator/alice]
`

// realm is an authority that serves, and the certificate authority behind it.
type realm struct {
	dir       string // of the authority
	issuers   *pki.Issuers
	root      *pki.Root
	mesh      *nodetest.Mesh
	authority *authority.Authority
	service   *nodetest.Service
}

// made is a certificate authority on disk that several tests use: making one takes long on purpose.
type made struct {
	sync.Once
	dir string
	ca  *pki.CA
	err error
}

var (
	common  made // for most tests, which change nothing in it
	foreign made // of the same trust domain, with another root
	old     made // made yesterday, and by a clock that stands there
)

func yesterday() time.Time { return time.Now().Add(-25 * time.Hour) }

func TestMain(m *testing.M) {
	cleanup := goleak.Cleanup(func(code int) {
		for _, ca := range []*made{&common, &foreign, &old} {
			if err := os.RemoveAll(ca.dir); err != nil {
				panic(err)
			}
		}
		os.Exit(code)
	})
	leaktest.Main(m, cleanup)
}

func (m *made) open(t *testing.T) *pki.CA {
	t.Helper()
	m.Do(func() {
		config := pki.Config{TrustDomain: domain}
		if m == &old {
			config.Now = yesterday
		}
		if m.dir, m.err = os.MkdirTemp("", "rolecall-authority-"); m.err == nil {
			m.ca, _, m.err = pki.OpenOrCreate(m.dir, config)
		}
	})
	if m.err != nil {
		t.Fatal(m.err)
	}
	return m.ca
}

func (m *made) authority() string { return filepath.Join(m.dir, pki.AuthorityDir) }

// open starts an authority on the common CA; its clients get their first certificates from the CA at hand, as `up` does.
func open(t *testing.T, changes ...func(*node.Config)) *realm {
	t.Helper()
	return openWith(t, authority.Config{DNSNames: []string{"*.example.org"}}, changes...)
}

// openWith starts an authority on the common CA.
func openWith(t *testing.T, config authority.Config, changes ...func(*node.Config)) *realm {
	t.Helper()
	ca := common.open(t)
	config.Dir = common.authority()
	return start(t, ca.Issuers(), config, changes...)
}

// openOwn starts an authority on a directory of its own, which the test may change. Its root is that of the common CA.
func openOwn(t *testing.T, changes ...func(*node.Config)) *realm {
	t.Helper()
	common.open(t)
	dir := copyOfCommon(t)
	issuers, err := pki.OpenIssuers(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	return start(t, issuers, authority.Config{Dir: dir}, changes...)
}

// copyOfCommon copies the authority's directory of the common CA, each file readable by its owner alone.
func copyOfCommon(t *testing.T) string {
	t.Helper()
	common.open(t)
	from, to := common.authority(), filepath.Join(t.TempDir(), pki.AuthorityDir)
	err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			return os.Mkdir(filepath.Join(to, name), 0o700)
		case strings.HasPrefix(entry.Name(), "."):
			return nil // a file that another test is about to replace
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, name), data, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// start starts an authority on issuers that are open.
func start(t *testing.T, issuers *pki.Issuers, config authority.Config, changes ...func(*node.Config)) *realm {
	t.Helper()
	a, err := authority.OpenOn(issuers, config)
	if err != nil {
		t.Fatal(err)
	}
	mesh := nodetest.New(t, roles)
	own := func(c *node.Config) {
		c.Source, c.ID = a.Source(), spiffeid.RequireFromPath(domain, "/service/authority")
	}
	service := mesh.Start(t, "authority", "", a.Setup, append(changes, own)...)
	return &realm{dir: config.Dir, issuers: issuers, root: common.open(t).Root(), mesh: mesh, authority: a, service: service}
}

func csr(t *testing.T, key crypto.Signer, path string, dns []string, ips ...net.IP) []byte {
	t.Helper()
	if key == nil {
		key = newKey(t)
	}
	der, err := pki.NewCSR(key, spiffeid.RequireFromPath(domain, path), dns, ips)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// patience is how long a test waits: a key takes a second or two to make where races are looked for, and on a machine that does
// much else ten times as long.
const patience = 6 * nodetest.Patience

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// addresses parses IP addresses.
func addresses(t *testing.T, texts []string) []net.IP {
	t.Helper()
	var ips []net.IP
	for _, text := range texts {
		ip := net.ParseIP(text)
		if ip == nil {
			t.Fatalf("%q is no IP address", text)
		}
		ips = append(ips, ip)
	}
	return ips
}

// metrics returns what Prometheus would read.
func (r *realm) metrics(t *testing.T) string {
	t.Helper()
	req, err := http.NewRequestWithContext(within(t), http.MethodGet, "http://"+r.service.Admin+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
