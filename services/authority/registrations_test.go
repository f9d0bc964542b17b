package authority_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	authorityv1 "example.com/rolecall/gen/authority/v1"
	"example.com/rolecall/internal/node"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/services/authority"
)

// run runs an authority that is expected not to start, and returns why.
func run(t *testing.T, config authority.Config) error {
	t.Helper()
	issuers := common.open(t).Issuers()
	config.Dir = common.authority()
	a, err := authority.OpenOn(issuers, config)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(t.Context(), nodetest.Patience)
	defer cancel()
	return node.Run(ctx, node.Config{Name: "authority", Listen: "127.0.0.1:0", Roles: nodetest.New(t, roles).Roles,
		Source: a.Source(), Audit: slog.DiscardHandler, Log: slog.New(slog.DiscardHandler)}, a.Setup)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

const registered = `
requesters:
  - id: spiffe://mesh.local/agent/host2
    allow: ["/service/billing", "/ns/*/sa/till"]
    dnsNames: ["billing.internal", "*.till.internal"]
    ipAddresses: ["10.0.0.0/24", "192.168.7.7", "fd00::/64"]
  - id: spiffe://mesh.local/service/agent
    allow: []
`

// openRegistered starts an authority with a registrations file.
func openRegistered(t *testing.T, changes ...func(*node.Config)) (r *realm, file string) {
	t.Helper()
	folder := filepath.Join(t.TempDir(), "config")
	if err := os.Symlink(t.TempDir(), folder); err != nil {
		t.Skipf("no symbolic links here: %v", err)
	}
	file = filepath.Join(folder, "registrations.yaml")
	write(t, file, registered)
	return openWith(t, authority.Config{Registrations: file}, changes...), file
}

func TestARequesterGetsWhatItsRegistrationSays(t *testing.T) {
	t.Parallel()
	r, _ := openRegistered(t)
	host2, host3, local := r.client(t, r.caller(t, "/agent/host2")), r.client(t, r.caller(t, "/agent/host3")), r.client(t, r.caller(t, "/service/agent"))
	const refused = "InvalidArgument INVALID_FIELD"
	for _, c := range []struct {
		name, want string
		from       authorityv1.AuthorityServiceClient
		path       string
		dns, ips   []string
	}{
		{"what is registered", "OK", host2, "/service/billing", []string{"billing", "billing.internal", "eu.till.internal"}, []string{"127.0.0.1", "10.0.0.7", "192.168.7.7", "fd00::1"}},
		{"a star in the middle", "OK", host2, "/ns/shop/sa/till", nil, nil},
		{"a requester outside its registration", refused, host2, "/service/ledger", nil, nil},
		{"a path that goes on", refused, host2, "/ns/shop/sa/till/x", nil, nil},
		{"a network next door", refused, host2, "/service/billing", nil, []string{"10.0.1.7"}},
		{"an IPv6 network next door", refused, host2, "/service/billing", nil, []string{"fd00:0:0:1::1"}},
		{"two labels where one is allowed", refused, host2, "/service/billing", []string{"a.b.till.internal"}, nil},
		{"a requester that is not registered", refused, host3, "/service/billing", nil, nil},
		{"a requester that is registered for nothing", refused, local, "/service/billing", nil, nil},
		{"itself, without being registered", "OK", host3, "/agent/host3", nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			request := &authorityv1.IssueCertificateRequest{Csr: csr(t, nil, c.path, c.dns, addresses(t, c.ips)...)}
			if _, err := c.from.IssueCertificate(within(t), request); verdict(err) != c.want {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
	for id, want := range map[string]string{"spiffe://mesh.local/service/billing": "OK", "spiffe://mesh.local/service/ledger": refused} {
		if _, err := host2.IssueJwtSvid(within(t), &authorityv1.IssueJwtSvidRequest{SpiffeId: id, Audience: []string{"x"}}); verdict(err) != want {
			t.Errorf("a JWT of %s: got %v, want %s", id, err, want)
		}
	}
}

func TestRegistrationsAreReadAgain(t *testing.T) {
	t.Parallel()
	var log logged
	r, file := openRegistered(t, func(c *node.Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	client := r.client(t, r.caller(t, "/agent/host3"))
	may := func() bool {
		_, err := client.IssueCertificate(within(t), &authorityv1.IssueCertificateRequest{Csr: csr(t, nil, "/service/billing", nil)})
		if got := verdict(err); got != "OK" && got != "InvalidArgument INVALID_FIELD" {
			t.Fatal(err)
		}
		return err == nil
	}
	if may() {
		t.Fatal("host3 is not registered and got a certificate")
	}
	// In one step: a file that is read while it is written would be reported too, for another reason.
	replace := func(content string) {
		write(t, file+".new", content)
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	replace(strings.Replace(registered, "host2", "host3", 1))
	until(t, "host3 is registered", may)

	replace("requesters: [")
	reports := func() int { return strings.Count(log.text(), "what=registrations error=") } // others cannot read what is theirs
	until(t, "the broken file is reported", func() bool {
		return reports() > 0 && strings.Contains(r.metrics(t), "rolecall_authority_registrations_stale_ratio 1")
	})
	if !may() {
		t.Error("a broken file took away what was registered")
	}
	if n := reports(); n != 1 {
		t.Errorf("reported %d times:\n%s", n, log.text())
	}
	replace(registered)
	until(t, "host3 is registered no more", func() bool { return !may() })

	// A missed file event: the folder is a link that leads elsewhere now, and nobody tells.
	elsewhere := t.TempDir()
	write(t, filepath.Join(elsewhere, filepath.Base(file)), strings.Replace(registered, "host2", "host3", 1))
	if err := os.Symlink(elsewhere, filepath.Dir(file)+".new"); err != nil {
		t.Skipf("no symbolic links here: %v", err)
	}
	if err := os.Rename(filepath.Dir(file)+".new", filepath.Dir(file)); err != nil {
		t.Fatal(err)
	}
	until(t, "host3 is registered again, without an event", may)
}

func TestRegistrationsThatAreRefused(t *testing.T) {
	t.Parallel()
	one := func(lines string) string { return "requesters:\n  - id: spiffe://mesh.local/agent/a\n" + lines }
	for _, c := range []struct{ name, text, says string }{
		{"an empty file", "", "empty"},
		{"a file without the key", "{}", "requesters is missing"},
		{"an unknown key", one("    alow: [/service/x]\n"), "alow"},
		{"a key that is there twice", one("    allow: [/a]\n    allow: [/b]\n"), "already defined"},
		{"the key requesters twice", "requesters: []\nrequesters: []\n", "already defined"},
		{"two documents", "requesters: []\n---\nrequesters: []\n", "one YAML document"},
		{"an alias", "requesters:\n  - id: &a spiffe://mesh.local/agent/a\n  - id: *a\n", "anchor"},
		{"a tag", one("    allow: !!seq [/a]\n"), "tag"},
		{"a requester that is there twice", one("  - id: spiffe://mesh.local/agent/a\n"), "there twice"},
		{"a requester of another trust domain", "requesters:\n  - id: spiffe://other.example/agent/a\n", "not a workload of the trust domain mesh.local"},
		{"a requester that is a trust domain", "requesters:\n  - id: spiffe://mesh.local\n", "not a workload"},
		{"a requester that is a pattern", "requesters:\n  - id: spiffe://mesh.local/agent/*\n", "id"},
		{"operators", one("    allow: [/operator/*]\n"), "never given out"},
		{"tickets", one("    allow: [/join/x]\n"), "never given out"},
		{"agents", one("    allow: [/agent/b]\n"), "never given out"},
		{"a path without a slash", one("    allow: [service/x]\n"), "a path such as"},
		{"a star inside of a segment", one("    allow: [/service/a*]\n"), "one whole segment"},
		{"a segment that no ID has", one("    allow: [/service/..]\n"), "no SPIFFE ID"},
		{"a DNS name in upper case", one("    dnsNames: [Billing]\n"), "lower case"},
		{"a DNS name that is a star", one("    dnsNames: [\"*\"]\n"), "host name"},
		{"a network with bits behind its prefix", one("    ipAddresses: [10.0.0.1/24]\n"), "10.0.0.0/24"},
		{"an address with a zone", one("    ipAddresses: [\"fe80::1%eth0\"]\n"), "address or a network"},
		{"a network that is a name", one("    ipAddresses: [localhost]\n"), "address or a network"},
		{"more than a thousand requesters", "requesters:\n" + strings.Repeat("  - id: spiffe://mesh.local/agent/a\n", 1001), "1000 at most"},
		{"more than a hundred paths", one("    allow: [" + strings.Repeat("/a,", 100) + "/a]\n"), "more than 100"},
		{"no text", "requesters: []\n#\xff\n", "UTF-8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := authority.ParseRegistrations([]byte(c.text), domain)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want an error that says %q", err, c.says)
			}
		})
	}
}

func TestAnAuthorityDoesNotStartWithRegistrationsThatItCannotRead(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "registrations.yaml")
	if err := run(t, authority.Config{Registrations: file}); err == nil || !strings.Contains(err.Error(), "read registrations") {
		t.Errorf("no file: got %v", err)
	}
	write(t, file, "requesters: [")
	if err := run(t, authority.Config{Registrations: file}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a broken file: got %v", err)
	}
	write(t, file, "#"+strings.Repeat("x", 1<<20))
	if err := run(t, authority.Config{Registrations: file}); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("a megabyte: got %v", err)
	}
	write(t, file, "requesters: []\n")
	openWith(t, authority.Config{Registrations: file}) // in which nobody is
}
