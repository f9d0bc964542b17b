package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// built is where the program lies once a test asked for it; empty before.
var built string

func TestMain(m *testing.M) {
	code := m.Run()
	if built != "" {
		_ = os.RemoveAll(filepath.Dir(built))
	}
	os.Exit(code)
}

// program builds the program, once, for tests that need processes of their own. It is built without the race detector, which
// makes opening a key take seconds.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "rolecall-cmd-")
	if err != nil {
		return "", err
	}
	built = filepath.Join(dir, "rolecall")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", built, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return built, nil
})
