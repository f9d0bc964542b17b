//go:build linux || darwin

package agent

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/status"

	"example.com/rolecall/internal/leaktest"
)

// childEnv makes this test binary act as another process: what it does, a colon, and the socket.
const childEnv = "ROLECALL_AGENT_TEST_CHILD"

func TestMain(m *testing.M) {
	if what, socket, ok := strings.Cut(os.Getenv(childEnv), ":"); ok {
		os.Exit(child(what, socket))
	}
	leaktest.Main(m)
}

// child is the other process: it prints one line and exits when its standard input is closed.
func child(what, socket string) int {
	switch what {
	case "fetch":
		fmt.Println(fetch(socket))
		return 0
	case "list":
		_, err := List(context.Background(), socket)
		fmt.Println(err)
		return 0
	case "pass": // connects, and passes the connection on through file descriptor 3
		if err := passConnection(socket); err != nil {
			fmt.Println(err)
			return 1
		}
		fmt.Println("passed")
	case "streams":
		awaitGo()
		holdStreams(socket)
	case "stuck":
		awaitGo()
		stream, _, err := stickStream(context.Background(), socket)
		fmt.Println("stuck", err)
		defer runtime.KeepAlive(stream)
	case "jwt":
		fmt.Println(fetchJWT(socket))
		return 0
	case "wait":
		fmt.Println("waiting")
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// awaitGo waits until the test has registered this process, and ends it with its standard input from then on.
func awaitGo() {
	if n, _ := os.Stdin.Read(make([]byte, 1)); n == 0 {
		os.Exit(1)
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
}

// fetch returns the SPIFFE ID that the Workload API gives to this process, or the code of its refusal.
func fetch(socket string) string {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client, err := workloadapi.New(ctx, workloadapi.WithAddr("unix://"+socket))
	if err != nil {
		return err.Error()
	}
	defer func() { _ = client.Close() }()
	svid, err := client.FetchX509SVID(ctx)
	if err != nil {
		return status.Code(err).String()
	}
	return svid.ID.String()
}

// fetchJWT does the same for a JWT-SVID, and for the check of one.
func fetchJWT(socket string) string {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client, err := workloadapi.New(ctx, workloadapi.WithAddr("unix://"+socket))
	if err != nil {
		return err.Error()
	}
	defer func() { _ = client.Close() }()
	_, fetched := client.FetchJWTSVID(ctx, jwtsvid.Params{Audience: "x"})
	_, bundles := client.FetchJWTBundles(ctx)
	_, checked := client.ValidateJWTSVID(ctx, "a.b.c", "x")
	return fmt.Sprint(status.Code(fetched), " ", status.Code(bundles), " ", status.Code(checked))
}

func passConnection(socket string) error {
	conn, err := net.DialTimeout("unix", socket, patience)
	if err != nil {
		return err
	}
	file, err := conn.(*net.UnixConn).File()
	if err != nil {
		return err
	}
	return unix.Sendmsg(3, []byte{1}, unix.UnixRights(int(file.Fd())), nil, 0)
}

// otherProcess is another process that a test has started.
type otherProcess struct {
	*exec.Cmd
	stdin  io.WriteCloser
	stdout io.Reader
}

// start runs this test binary as another process, after every change has had its turn at the command, and returns it
// together with the line that it prints.
func start(t *testing.T, what, socket string, changes ...func(*exec.Cmd)) (*otherProcess, string) {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(executable)
	cmd.Env = append(os.Environ(), childEnv+"="+what+":"+socket)
	cmd.Stderr = t.Output()
	for _, change := range changes {
		change(cmd)
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &otherProcess{cmd, stdin, stdout}
	t.Cleanup(p.end)
	if what == "streams" || what == "stuck" {
		return p, "" // it prints its first line after it was told to go
	}
	return p, p.line()
}

// goAhead tells a process that waits for it that it was registered.
func (p *otherProcess) goAhead(t *testing.T) {
	t.Helper()
	if _, err := io.WriteString(p.stdin, "g"); err != nil {
		t.Fatal(err)
	}
}

// line returns the next line that the process prints.
func (p *otherProcess) line() string {
	var line strings.Builder
	for buf := make([]byte, 1); ; {
		if n, err := p.stdout.Read(buf); n == 0 || err != nil || buf[0] == '\n' {
			return line.String()
		}
		line.Write(buf)
	}
}

// end ends the process and waits for it.
func (p *otherProcess) end() {
	_ = p.stdin.Close()
	_ = p.Wait()
}
