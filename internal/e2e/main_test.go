//go:build unix

package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
)

// suite is what all tests of this run share: a folder, the binary, and one mesh for tests that do not disturb each other.
var suite struct {
	dir   string
	build func() (program string, err error)
	mesh  func() (*runningMesh, error)

	mu      sync.Mutex
	running *runningMesh // the shared one; nil until a test asked for it
}

// starts takes what is to be started; see startCommand.
var starts = make(chan func())

func TestMain(m *testing.M) {
	if os.Getenv(workloadVariable) != "" {
		os.Exit(workload())
	}
	os.Exit(runSuite(m))
}

func runSuite(m *testing.M) (code int) {
	dir, err := os.MkdirTemp("", "rolecall-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "make a folder for the tests:", err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	go func() {
		runtime.LockOSThread() // never unlocked: see startCommand
		for start := range starts {
			start()
		}
	}()
	suite.dir = dir
	suite.build = sync.OnceValues(build)
	suite.mesh = sync.OnceValues(startShared)
	code = m.Run()
	if suite.running == nil {
		return code
	}
	if err := suite.running.stop(); err != nil {
		fmt.Fprintf(os.Stderr, "stop the shared mesh: %v\n%s\n", err, content(suite.running.log))
		return max(code, 1)
	}
	if err := searchLogs(suite.running.dir); err != nil {
		fmt.Fprintf(os.Stderr, "passwords and tokens belong in no log: %v\n", err)
		return max(code, 1)
	}
	return code
}

// build builds rolecall as `make build` does.
func build() (string, error) {
	program := filepath.Join(suite.dir, "rolecall")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", program, "./cmd/rolecall")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build ./cmd/rolecall: %w\n%s", err, out)
	}
	return program, nil
}

// buildRolecall returns the binary, which is built once.
func buildRolecall(t *testing.T) string {
	t.Helper()
	program, err := suite.build()
	if err != nil {
		t.Fatal(err)
	}
	return program
}

func startShared() (*runningMesh, error) {
	running, err := bringUp(filepath.Join(suite.dir, "mesh"))
	suite.mu.Lock()
	defer suite.mu.Unlock()
	suite.running = running
	return running, err
}

// sharedMesh returns the mesh that tests share which leave its processes and its roles.yaml alone.
func sharedMesh(t *testing.T) *runningMesh {
	t.Helper()
	running, err := suite.mesh()
	if err != nil {
		t.Fatalf("bring up the shared mesh: %v", err)
	}
	return running
}

// startCommand starts a process that ends with this one, even if that is killed, where the system can do it: a test that
// crashes leaves nothing behind. All are started by one thread that lives as long as the process, since it is the end of
// the thread that the kernel goes by.
func startCommand(cmd *exec.Cmd) error {
	endWithUs(cmd)
	result := make(chan error, 1)
	starts <- func() { result <- cmd.Start() }
	return <-result
}
