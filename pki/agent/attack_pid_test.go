//go:build linux || darwin

package agent

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"testing"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

func TestAttackARecycledPID(t *testing.T) {
	t.Parallel()
	a := startAgent(t, nil)
	other, _ := start(t, "wait", "")
	began, err := StartTime(other.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	was := process{other.Process.Pid, began}
	a.registerProcess(t, "/service/ledger", was.pid)
	if got, err := a.attest(t.Context(), peer{process: was, uid: uint32(os.Geteuid())}, nil); err != nil || len(got) != 1 {
		t.Fatalf("the registered process: %v, %v", got, err)
	}
	recycled := process{was.pid, was.start + 1}
	if names := a.registry.of([]process{recycled}); len(names) != 0 {
		t.Errorf("a later process with the pid is %v", names)
	}
	if _, err := a.attest(t.Context(), peer{process: process{was.pid, was.start - 1}, uid: uint32(os.Geteuid())}, nil); !errors.Is(err, errGone) {
		t.Errorf("a peer whose pid belongs to another process now: %v, want errGone", err)
	}
	if _, err := Register(t.Context(), a.config.Control, Registration{ID: a.id("/service/x"), PID: was.pid, StartTime: was.start + 1}); err == nil {
		t.Error("a process was registered under the start time of another")
	}
	other.end()
	if _, err := a.attest(t.Context(), peer{process: was, uid: uint32(os.Geteuid())}, nil); !errors.Is(err, errGone) {
		t.Errorf("after the process ended: %v, want errGone", err)
	}
}

// The process ends while the agent looks at it: what was found out may be of another that has its pid by then.
func TestAttackAProcessThatEndsWhileItIsAttested(t *testing.T) {
	t.Parallel()
	a := startAgent(t, nil)
	a.SetEntries(ownEntries(t, a, "/service/ledger"))
	other, _ := start(t, "wait", "")
	began, err := StartTime(other.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	p := peer{process: process{other.Process.Pid, began}, uid: uint32(os.Geteuid()), gid: uint32(os.Getegid())}
	if got, err := a.attest(t.Context(), p, nil); err != nil || len(got) != 1 {
		t.Fatalf("while it lives: %v, %v", got, err)
	}
	if got, err := a.attest(t.Context(), p, func([]process) { other.end() }); !errors.Is(err, errGone) {
		t.Errorf("it ended meanwhile: %v, %v; want errGone", got, err)
	}
}

// The process ends after it was attested, while the message to it is put together.
func TestAttackAProcessThatEndsBeforeItsMessageIsSent(t *testing.T) {
	t.Parallel()
	a := startAgent(t, nil)
	a.SetEntries(ownEntries(t, a, "/service/ledger"))
	other, _ := start(t, "wait", "")
	began, err := StartTime(other.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	info := peerInfo{peer: peer{process: process{other.Process.Pid, began}, uid: uint32(os.Geteuid()), gid: uint32(os.Getegid())}, hangUp: func() {}}
	ctx := grpcpeer.NewContext(within(t), &grpcpeer.Peer{AuthInfo: info})
	build := func(*trust, []*svid) (*workload.X509BundlesResponse, bool) {
		other.end()
		return &workload.X509BundlesResponse{}, true
	}
	send := func(*workload.X509BundlesResponse) error {
		t.Error("a message was sent")
		return context.Canceled
	}
	if err := follow(ctx, a.Server, bundleStream, build, send); status.Code(err) != codes.PermissionDenied {
		t.Errorf("got %v, want PermissionDenied", err)
	}
}

// The process that asked ends while its certificate is signed: whoever has its pid, or its connection, by then gets none.
func TestAttackAPIDThatIsReusedBetweenAttestationAndTheAnswerOfACertificate(t *testing.T) {
	t.Parallel()
	g := gatedSigner{asked: make(chan struct{}, 1), open: make(chan struct{})}
	a := startAgent(t, func(c *Config, s *testSigner) { g.testSigner = s; c.Signer = g })
	a.SetEntries(ownEntries(t, a, "/service/ledger"))
	client, other := passedOn(t, a)
	stream, err := client.FetchX509SVID(withHeader(within(t)), &workload.X509SVIDRequest{})
	if err != nil {
		t.Fatal(err)
	}
	<-g.asked // attested by now
	other.end()
	close(g.open)
	if got, err := stream.Recv(); status.Code(err) != codes.PermissionDenied {
		t.Errorf("the process ended meanwhile, and %d certificates came (%v); want PermissionDenied", len(got.GetSvids()), err)
	}
}

// A connection outlives the process that opened it if that has passed it on. The kernel goes on naming the one that
// opened it, whose pid may be another's by the time of the answer.
func TestAttackAConnectionWhosePIDIsReusedBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	a := startAgent(t, nil)
	client, other := passedOn(t, a)
	a.registerProcess(t, "/service/ledger", other.Process.Pid)
	ctx, cancel := context.WithTimeout(withHeader(t.Context()), patience)
	defer cancel()
	stream, err := client.FetchX509SVID(ctx, &workload.X509SVIDRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatalf("while the process that connected lives: %v", err)
	}
	other.end()
	a.subjects.wakeKinds(svidStream) // as a renewal does
	if _, err := stream.Recv(); status.Code(err) != codes.PermissionDenied {
		t.Errorf("the open stream after that process ended: %v, want PermissionDenied", err)
	}
	again, err := client.FetchX509SVID(ctx, &workload.X509SVIDRequest{})
	if err == nil {
		_, err = again.Recv()
	}
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("a new stream after that process ended: %v, want PermissionDenied", err)
	}
}

// passedOn returns a client on a connection that another process has opened and passed on, and that process.
func passedOn(t *testing.T, a *testAgent) (workload.SpiffeWorkloadAPIClient, *otherProcess) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "ours"), os.NewFile(uintptr(pair[1]), "theirs")
	other, said := start(t, "pass", a.config.Socket, func(cmd *exec.Cmd) { cmd.ExtraFiles = []*os.File{theirs} })
	if said != "passed" {
		t.Fatalf("the other process said %q", said)
	}
	_ = theirs.Close()
	passed := receive(t, ours)
	conn, err := grpc.NewClient("passthrough:///passed", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return passed, nil }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return workload.NewSpiffeWorkloadAPIClient(conn), other
}

// receive takes a connection that another process has passed on.
func receive(t *testing.T, from *os.File) net.Conn {
	t.Helper()
	defer func() { _ = from.Close() }()
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(int(from.Fd()), make([]byte, 1), oob, 0)
	if err != nil {
		t.Fatal(err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		t.Fatalf("%d control messages, error %v", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fds[0]), "passed")
	defer func() { _ = file.Close() }()
	conn, err := net.FileConn(file)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}
