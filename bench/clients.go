package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
)

// dialEnv makes this program the clients of the address in it.
const dialEnv = "ROLECALL_BENCH_DIAL"

// ready is what the clients print when all connections are open.
const ready = "ready"

// errand is what the process of the clients is told on standard input.
type errand struct {
	Connections                int
	ServerID                   string
	Certificates, Key, Bundles []byte
}

// clients is a process that holds connections open.
type clients struct {
	cmd   *exec.Cmd
	input io.Closer
}

// startClients starts this program again, as the clients, and returns when they are connected.
func startClients(w *workloads, address string, n int) (*clients, error) {
	svid, err := w.client.GetX509SVID()
	if err != nil {
		return nil, err
	}
	job := errand{Connections: n, ServerID: w.serverID.String()}
	if job.Certificates, job.Key, err = svid.Marshal(); err != nil {
		return nil, err
	}
	bundle, err := w.client.GetX509BundleForTrustDomain(w.serverID.TrustDomain())
	if err != nil {
		return nil, err
	}
	if job.Bundles, err = bundle.Marshal(); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), dialEnv+"="+address)
	cmd.Stderr = os.Stderr
	input, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &clients{cmd: cmd, input: input}
	if err := json.NewEncoder(input).Encode(job); err != nil {
		return nil, errors.Join(err, c.stop())
	}
	if line, err := bufio.NewReader(output).ReadString('\n'); strings.TrimSpace(line) != ready {
		return nil, errors.Join(fmt.Errorf("got %q instead of %q: %w", line, ready, err), c.stop())
	}
	return c, nil
}

// stop has the clients close their connections and waits for them.
func (c *clients) stop() error {
	return errors.Join(c.input.Close(), c.cmd.Wait())
}

// clientsInstead makes this process the clients, and ends it, if it was started to be them.
func clientsInstead() {
	address := os.Getenv(dialEnv)
	if address == "" {
		return
	}
	if err := dialAndWait(address, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bench: idle clients:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// dialAndWait opens connections with go-spiffe's credentials, makes a call on each, and holds
// them until its input ends.
func dialAndWait(address string, in io.Reader, out io.Writer) error {
	var job errand
	if err := json.NewDecoder(in).Decode(&job); err != nil {
		return fmt.Errorf("read what to do: %w", err)
	}
	id, err := spiffeid.FromString(job.ServerID)
	if err != nil {
		return err
	}
	svid, err := x509svid.Parse(job.Certificates, job.Key)
	if err != nil {
		return err
	}
	bundle, err := x509bundle.Parse(id.TrustDomain(), job.Bundles)
	if err != nil {
		return err
	}
	creds := credentials.NewTLS(tlsconfig.MTLSClientConfig(svid, bundle, tlsconfig.AuthorizeID(id)))
	for i := range job.Connections {
		conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(creds))
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
		_, err = ledgerv1.NewLedgerServiceClient(conn).GetBalance(ctx, &ledgerv1.GetBalanceRequest{})
		cancel()
		if err != nil {
			return fmt.Errorf("call on connection %d: %w", i, err)
		}
	}
	if _, err := fmt.Fprintln(out, ready); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, in)
	return err
}
