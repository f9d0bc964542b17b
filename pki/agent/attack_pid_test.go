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
	if got, err := a.attest(t.Context(), peer{process: was, uid: uint32(os.Geteuid())}); err != nil || len(got) != 1 {
		t.Fatalf("the registered process: %v, %v", got, err)
	}
	recycled := process{was.pid, was.start + 1}
	if names := a.registry.of([]process{recycled}); len(names) != 0 {
		t.Errorf("a later process with the pid is %v", names)
	}
	if _, err := a.attest(t.Context(), peer{process: process{was.pid, was.start - 1}, uid: uint32(os.Geteuid())}); !errors.Is(err, errGone) {
		t.Errorf("a peer whose pid belongs to another process now: %v, want errGone", err)
	}
	if _, err := Register(t.Context(), a.config.Control, Registration{ID: a.id("/service/x"), PID: was.pid, StartTime: was.start + 1}); err == nil {
		t.Error("a process was registered under the start time of another")
	}
	other.end()
	if _, err := a.attest(t.Context(), peer{process: was, uid: uint32(os.Geteuid())}); !errors.Is(err, errGone) {
		t.Errorf("after the process ended: %v, want errGone", err)
	}
}

// A connection outlives the process that opened it if that has passed it on. The kernel goes on naming the one that
// opened it, whose pid may be another's by the time of the answer.
func TestAttackAConnectionWhosePIDIsReusedBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	a := startAgent(t, nil)
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
	a.registerProcess(t, "/service/ledger", other.Process.Pid)

	conn, err := grpc.NewClient("passthrough:///passed", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return passed, nil }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	client := workload.NewSpiffeWorkloadAPIClient(conn)
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
	a.registry.notify() // as a renewal does
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
