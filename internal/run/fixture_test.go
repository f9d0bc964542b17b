//go:build linux || darwin

package run

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/workloadapi"

	"example.com/rolecall/internal/leaktest"
	"example.com/rolecall/internal/mesh"
	"example.com/rolecall/pki"
	"example.com/rolecall/pki/agent"
	"example.com/rolecall/rolecalltest"
)

// patience is how long a test waits for what should happen at once.
const patience = 10 * time.Second

// childVariable makes this test binary act as the program that is run.
const childVariable = "ROLECALL_RUN_TEST_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(childVariable) {
	case "identity": // prints the identity that the Workload API gives
		os.Exit(printIdentity())
	case "grandchild": // launches another that prints it, as `go run` does
		os.Exit(launch())
	}
	leaktest.Main(m)
}

func printIdentity() int {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	svid, err := workloadapi.FetchX509SVID(ctx)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println(svid.ID, svid.Certificates[0].DNSNames)
	return 0
}

// signer signs with a CA in memory.
type signer struct {
	ca     *rolecalltest.CA
	issuer *x509.Certificate
	key    crypto.Signer
}

func (s signer) Sign(_ context.Context, csr []byte) ([]*x509.Certificate, error) {
	request, err := pki.ReadCSR(csr, s.ca.TrustDomain())
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Second), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		URIs:        []*url.URL{request.ID.URL()}, DNSNames: request.DNSNames, IPAddresses: request.IPAddresses,
	}, s.issuer, request.PublicKey, s.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	return []*x509.Certificate{leaf, s.issuer}, err
}

// running is a mesh that has an agent and nothing else.
type running struct {
	dir    mesh.Dir
	file   *mesh.File
	config agent.Config
	stop   func()
}

func startMesh(t *testing.T) *running {
	t.Helper()
	path, err := os.MkdirTemp("", "run") // t.TempDir makes paths that are too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(path) })
	r := &running{}
	if r.dir, err = mesh.Create(path); err != nil {
		t.Fatal(err)
	}
	workloadAPI, control, err := r.dir.Sockets()
	if err != nil {
		t.Fatal(err)
	}
	ca := rolecalltest.NewCA(t, "mesh.local")
	issuer, key := ca.Intermediate()
	r.config = agent.Config{TrustDomain: ca.TrustDomain(), Bundle: ca.Bundle(), Signer: signer{ca, issuer, key}, Socket: workloadAPI, Control: control}
	r.file = &mesh.File{TrustDomain: "mesh.local", PID: os.Getpid(), WorkloadAPI: "unix://" + workloadAPI, Control: "unix://" + control}
	r.serve(t)
	t.Cleanup(func() { r.stop() })
	if err := mesh.Write(r.dir, r.file); err != nil {
		t.Fatal(err)
	}
	return r
}

// serve starts the agent, also again.
func (r *running) serve(t *testing.T) {
	t.Helper()
	server, err := agent.New(r.config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx) }()
	r.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the agent ended with: %v", err)
		}
	}
}

// program is one run of a program.
type program struct {
	signals chan os.Signal
	stdin   *os.File // closed: end of the program's input
	output  *os.File
	ended   chan error
}

const billing = "spiffe://mesh.local/service/billing"

// run starts the command as billing.
func (r *running) run(t *testing.T, command ...string) *program {
	t.Helper()
	return r.runAs(t, Config{ID: billing, Command: command})
}

func (r *running) runAs(t *testing.T, c Config) *program {
	t.Helper()
	in, stdin, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := os.Create(filepath.Join(t.TempDir(), "output"))
	if err != nil {
		t.Fatal(err)
	}
	p := &program{signals: make(chan os.Signal, 8), stdin: stdin, output: output, ended: make(chan error, 1)}
	c.Dir, c.Stdin, c.Stdout, c.Stderr, c.Signals = r.dir.Path(), in, output, output, p.signals
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.ended <- Run(context.Background(), c)
	}()
	t.Cleanup(func() {
		stdin.Close()
		select {
		case <-done:
		case <-time.After(patience):
			t.Errorf("the program did not end within %s after its input had: %s", patience, p.said(t))
		}
		in.Close()
		output.Close()
	})
	return p
}

// wait waits for the end.
func (p *program) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-p.ended:
		return err
	case <-time.After(2 * patience):
		t.Fatalf("the program did not end within %s; it said: %s", 2*patience, p.said(t))
		return nil
	}
}

// said returns what the program has written so far.
func (p *program) said(t *testing.T) string {
	t.Helper()
	data, err := io.ReadAll(io.NewSectionReader(p.output, 0, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// until waits until the condition holds and logs how long it took.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		if time.Since(began) > patience {
			t.Fatalf("not within %s: %s", patience, what)
		}
		<-tick.C
	}
	t.Logf("%s: after %s", what, time.Since(began).Round(time.Millisecond))
}

func (p *program) awaitSaid(t *testing.T, text string) {
	t.Helper()
	until(t, "the program says "+text, func() bool { return strings.Contains(p.said(t), text) })
}
