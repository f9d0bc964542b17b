//go:build unix

package e2e_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/internal/mesh"
)

// byHand is a mesh that is put together as an operator does in production: a root on one machine, the authority's folder on
// another, and each process started by itself.
type byHand struct {
	dir        string
	td         string
	root       string // folder of the root: the offline machine
	passphrase string // file
	ca         string // folder of the authority
	roles      string
	authority  string // HOST:PORT
	prefix     []string
}

// handRoles lets agents ask for certificates and alice do everything.
const handRoles = `trustDomain: TD
bindings:
  - role: authority.requester
    members: ["spiffe://TD/agent/*"]
  - role: authority.admin
    members: [spiffe://TD/operator/alice]
  - role: rolecall.admin
    members: [spiffe://TD/operator/alice]
  - role: ledger.admin
    members: [spiffe://TD/operator/alice]
  - role: ledger.reader
    members: [spiffe://TD/operator/bob]
`

// newByHand makes the folders, and the root's passphrase, but no certificate.
func newByHand(t *testing.T, td string) *byHand {
	t.Helper()
	dir := shortTempDir(t)
	h := &byHand{
		dir: dir, td: td, root: filepath.Join(dir, "offline", "root"), passphrase: filepath.Join(dir, "offline", "passphrase"),
		ca: filepath.Join(dir, "ca"), roles: filepath.Join(dir, "roles.yaml"), authority: freeAddress(t),
	}
	if err := os.Mkdir(filepath.Dir(h.root), 0o700); err != nil {
		t.Fatal(err)
	}
	h.write(t, h.passphrase, "correct horse battery staple "+strconv.Itoa(os.Getpid())+"\n")
	h.write(t, h.roles, strings.ReplaceAll(handRoles, "TD", td))
	return h
}

func (h *byHand) write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// path is a file in the folder of the mesh.
func (h *byHand) path(name string) string { return filepath.Join(h.dir, name) }

// signIssuer carries a request for an issuer to the root and the certificate back. ttl is the issuer's life.
func (h *byHand) signIssuer(t *testing.T, ttl string) {
	t.Helper()
	csr, cert := h.path("issuer.csr"), h.path("issuer.crt")
	mustRun(t, "pki", "issuer", "csr", "--ca", h.ca, "--trust-domain", h.td, "--out", csr)
	mustRun(t, "pki", "issuer", "sign", "--root", h.root, "--passphrase-file", h.passphrase, "--csr", csr, "--out", cert, "--ttl", ttl)
	mustRun(t, "pki", "issuer", "import", "--ca", h.ca, "--bundle", filepath.Join(h.root, "root.crt"), cert)
}

// create makes root, authority and first issuer.
func (h *byHand) create(t *testing.T, issuerTTL string) {
	t.Helper()
	mustRun(t, "pki", "init", "--root", h.root, "--trust-domain", h.td, "--passphrase-file", h.passphrase)
	h.signIssuer(t, issuerTTL)
}

// id is an ID of the trust domain.
func (h *byHand) id(path string) string { return "spiffe://" + h.td + path }

// startAuthority runs the authority, with further arguments.
func (h *byHand) startAuthority(t *testing.T, args ...string) *process {
	t.Helper()
	return h.start(t, nil, append([]string{"serve", "authority", "--listen", h.authority, "--roles", h.roles, "--ca", h.ca, "--grace", "1s"}, args...)...)
}

// start runs rolecall, below h.prefix: that is where it runs.
func (h *byHand) start(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	line := append(append(append([]string{}, h.prefix...), buildRolecall(t)), args...)
	return startProcess(t, line[0], env, line[1:]...)
}

// agentAt is one machine's agent.
type agentAt struct {
	*process
	socket string
	dir    string
}

// startAgent runs the agent of a machine, which joins with a ticket.
func (h *byHand) startAgent(t *testing.T, name, entries string, args ...string) *agentAt {
	t.Helper()
	dir := h.path(name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	a := &agentAt{socket: filepath.Join(dir, "agent.sock"), dir: dir}
	ticket := filepath.Join(dir, "ticket.pem")
	mustRun(t, "pki", "ticket", name, "--ca", h.ca, "--out", ticket)
	h.write(t, filepath.Join(dir, "entries.yaml"), entries)
	a.process = h.start(t, nil, append([]string{"agent", "--trust-domain", h.td, "--authority", "dns:///" + h.authority + "," + h.id("/service/authority"),
		"--join", ticket, "--credential", filepath.Join(dir, "agent.pem"), "--bundle", filepath.Join(dir, "bundle.pem"),
		"--entries", filepath.Join(dir, "entries.yaml"), "--socket", a.socket, "--control", filepath.Join(dir, "control.sock")}, args...)...)
	return a
}

// ledgerEntry entitles every process of this user to be the ledger.
func (h *byHand) ledgerEntry(ip string) string {
	return fmt.Sprintf("entries:\n  - spiffeId: %s\n    selectors: [\"unix:uid:%d\"]\n    dnsNames: [localhost]\n    ipAddresses: [%q]\n",
		h.id("/service/ledger"), os.Getuid(), ip)
}

// startLedger runs the ledger with the agent of its machine.
func (h *byHand) startLedger(t *testing.T, a *agentAt, listen string) *process {
	t.Helper()
	data := filepath.Join(a.dir, "ledger")
	if err := os.MkdirAll(data, 0o700); err != nil {
		t.Fatal(err)
	}
	return h.start(t, []string{"SPIFFE_ENDPOINT_SOCKET=unix://" + a.socket}, "serve", "ledger", "--listen", listen, "--roles", h.roles, "--data", data, "--grace", "1s")
}

// issue makes the files of an operator.
func (h *byHand) issue(t *testing.T, name string, args ...string) mesh.Operator {
	t.Helper()
	o := mesh.Operator{Name: name, ID: h.id("/operator/" + name), Cert: h.path(name + ".crt"), Key: h.path(name + ".key")}
	mustRun(t, append([]string{"pki", "issue", "--ca", h.ca, "--id", o.ID, "--cert", o.Cert, "--key", o.Key}, args...)...)
	return o
}

// asMesh describes the mesh for the helpers that take one of `up`.
func (h *byHand) asMesh(ledger string, operators ...mesh.Operator) *runningMesh {
	return &runningMesh{dir: h.dir, file: &mesh.File{
		TrustDomain: h.td, Bundle: filepath.Join(h.ca, "bundle.pem"), Roles: h.roles, Operators: operators,
		Services: []mesh.Service{
			{Name: "authority", ID: h.id("/service/authority"), Address: h.authority},
			{Name: "ledger", ID: h.id("/service/ledger"), Address: ledger},
		},
	}}
}

// patientLedger returns a client of the ledger that waits until the ledger is there.
func (c *caller) patientLedger(t *testing.T) ledgerv1.LedgerServiceClient {
	t.Helper()
	return ledgerv1.NewLedgerServiceClient(c.dial(t, "ledger", grpc.WithDefaultCallOptions(grpc.WaitForReady(true))))
}

// port returns the port of an address.
func port(t *testing.T, address string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatalf("address %q: %v", address, err)
	}
	return port
}
