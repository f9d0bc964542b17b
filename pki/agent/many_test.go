//go:build linux || darwin

package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// Ten thousand streams, of eight processes.
const (
	manyProcesses   = 8
	manyConnections = 25 // of each process
	manyStreams     = 50 // of each connection
	manyAll         = manyProcesses * manyConnections * manyStreams
	manyPatience    = 60 * time.Second // two processors and a race detector may take it
)

// holdStreams is what one of the processes does: after it was told a socket it opens its streams and prints a line each
// time that all of them got one more message: when that was.
func holdStreams(socket string) {
	var got [2]atomic.Int64
	all := [2]chan struct{}{make(chan struct{}), make(chan struct{})}
	for range manyConnections {
		conn, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			fmt.Println(err)
			return
		}
		client := workload.NewSpiffeWorkloadAPIClient(conn)
		for range manyStreams {
			go func() {
				stream, err := openPatiently(client)
				for n := range got {
					if n > 0 && err == nil {
						_, err = stream.Recv()
					}
					if err != nil {
						fmt.Println(err)
						return
					}
					if got[n].Add(1) == manyConnections*manyStreams {
						close(all[n])
					}
				}
				_, _ = stream.Recv()
			}()
		}
	}
	for n := range all {
		<-all[n]
		fmt.Println(time.Now().UnixNano())
	}
}

// openPatiently opens a stream and takes its first message. Like every client it tries again when the connection fails, for a
// while.
func openPatiently(client workload.SpiffeWorkloadAPIClient) (workload.SpiffeWorkloadAPI_FetchX509SVIDClient, error) {
	for end := time.Now().Add(2 * manyPatience); ; {
		stream, err := client.FetchX509SVID(withHeader(context.Background()), &workload.X509SVIDRequest{}, grpc.WaitForReady(true))
		if err == nil {
			_, err = stream.Recv()
		}
		if status.Code(err) != codes.Unavailable || time.Now().After(end) {
			return stream, err
		}
	}
}

func (p *otherProcess) moment(t *testing.T) time.Time {
	t.Helper()
	var nanos int64
	line := p.line()
	if _, err := fmt.Sscan(line, &nanos); err != nil {
		t.Fatalf("a process with streams said %q", line)
	}
	return time.Unix(0, nanos)
}

func TestTenThousandStreamsAndOneThatIsNeverRead(t *testing.T) {
	if testing.Short() {
		t.Skip("opens ten thousand streams")
	}
	if openFiles() < 1024 {
		if os.Getenv("CI") == "true" {
			t.Fatal("this process may open fewer than 1024 files")
		}
		t.Skip("needs 1024 open files: raise the limit with ulimit -n")
	}
	a := startAgent(t, func(c *Config, _ *testSigner) {
		c.StreamsPerProcess = manyConnections * manyStreams
		c.Log = slog.New(slog.DiscardHandler)
	})
	began := time.Now()
	var processes []*otherProcess
	for n := range manyProcesses {
		p, _ := start(t, "streams", a.config.Socket)
		a.registerProcess(t, fmt.Sprintf("/service/s%d", n), p.Process.Pid)
		p.goAhead(t)
		processes = append(processes, p)
	}
	stuck, _ := start(t, "stuck", a.config.Socket) // registered in time, so that its certificate is no event of what is counted below
	a.registerProcess(t, "/service/stuck", stuck.Process.Pid)
	for _, p := range processes {
		p.moment(t)
	}
	if got := a.streams.count(); got != manyAll {
		t.Fatalf("%d streams are open, want %d", got, manyAll)
	}
	t.Logf("%d streams of %d processes had their first message after %s, %d certificates, %d attestations", manyAll, manyProcesses,
		time.Since(began).Round(time.Millisecond), a.signer.signed(), a.subjects.attesting.Load())
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	t.Logf("the agent holds %d MiB of heap and stacks: %d KiB for each stream", (memory.HeapInuse+memory.StackInuse)>>20, (memory.HeapInuse+memory.StackInuse)/manyAll>>10)
	stuck.goAhead(t)
	if said := stuck.line(); said != "stuck <nil>" {
		t.Fatalf("the process that does not read said %q", said)
	}

	// A new certificate of one identity.
	wakes, attestations := a.subjects.wakes.Load(), a.subjects.attesting.Load()
	one := a.registry.list()[0].identity
	fresh, err := one.renew(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sent := time.Now()
	one.mu.Lock()
	one.svid = fresh
	one.mu.Unlock()
	one.changed(one)
	processes[0].moment(t)
	t.Logf("a new certificate of one identity reached its %d streams after %s", manyConnections*manyStreams, time.Since(sent).Round(time.Millisecond))
	if got := a.subjects.wakes.Load() - wakes; got > manyConnections*manyStreams {
		t.Errorf("it woke %d streams, want the %d that it concerns", got, manyConnections*manyStreams)
	}
	if got := a.subjects.attesting.Load() - attestations; got > 1 {
		t.Errorf("it took %d attestations, want one of the one process", got)
	}

	// A new bundle, for all.
	attestations = a.subjects.attesting.Load()
	bundle := a.ca.Bundle()
	other, _ := a.ca.Intermediate()
	bundle.AddX509Authority(other)
	sent = time.Now()
	a.SetBundle(bundle)
	var last time.Time
	for _, p := range processes[1:] {
		if moment := p.moment(t); moment.After(last) {
			last = moment
		}
	}
	if took := last.Sub(sent); took > manyPatience {
		t.Errorf("a new bundle took %s", took)
	} else {
		t.Logf("a new bundle reached the streams of all processes after %s, with %d attestations and one stream that is never read",
			took.Round(time.Millisecond), a.subjects.attesting.Load()-attestations)
	}
	if got := a.subjects.attesting.Load() - attestations; got > manyProcesses+1 {
		t.Errorf("it took %d attestations, want one of each process", got)
	}
	eventually(t, "all streams are told of as having the new bundle", func() bool {
		streams := 0
		for _, h := range a.HandedOut() {
			if h.Digest == a.trust.Load().digest {
				streams += h.Streams
			}
		}
		return streams >= manyAll
	})
}

// stuckConn is a connection that nobody reads from once it is stuck.
type stuckConn struct {
	net.Conn
	stuck  atomic.Bool
	closed chan struct{}
	once   sync.Once
}

func (c *stuckConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.stuck.Load() {
		<-c.closed
	}
	return n, err
}

func (c *stuckConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

// stickStream opens a stream, takes one message, and reads no more.
func stickStream(ctx context.Context, socket string) (*stuckConn, *grpc.ClientConn, error) {
	stuck := &stuckConn{closed: make(chan struct{})}
	conn, err := grpc.NewClient("passthrough:///stuck", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			var err error
			stuck.Conn, err = new(net.Dialer).DialContext(ctx, "unix", socket)
			return stuck, err
		}))
	if err != nil {
		return nil, nil, err
	}
	stream, err := workload.NewSpiffeWorkloadAPIClient(conn).FetchX509SVID(withHeader(ctx), &workload.X509SVIDRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	stuck.stuck.Store(true)
	return stuck, conn, err
}

func TestAttackASlowReader(t *testing.T) {
	t.Parallel()
	a := startAgent(t, func(c *Config, _ *testSigner) {
		c.stuckAfter = 3 * time.Second // a healthy reader's message is put together and sent within it, however busy the machine is
		c.Log = slog.New(slog.DiscardHandler)
	})
	a.register(t, "/service/ledger")
	stuck, conn, err := stickStream(t.Context(), a.config.Socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stuck.Close(); _ = conn.Close() })
	open := a.streams.count()
	healthy := openStream(t, a)
	var slowest time.Duration
	pushes := 0
	began := time.Now()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for ; a.streams.count() > open; <-tick.C { // until the agent has had enough of the one that does not read
		if time.Since(began) > patience {
			t.Fatal("the stream that is never read is still open")
		}
		other, _ := a.ca.Intermediate()
		next := a.ca.Bundle()
		next.AddX509Authority(other)
		sent := time.Now()
		a.SetBundle(next)
		if _, err := healthy.Recv(); err != nil {
			t.Fatal(err)
		}
		slowest = max(slowest, time.Since(sent))
		pushes++
	}
	t.Logf("after %s and %d bundles the connection that is never read was closed; another stream had each of them within %s",
		time.Since(began).Round(time.Millisecond), pushes, slowest.Round(time.Millisecond))
}
