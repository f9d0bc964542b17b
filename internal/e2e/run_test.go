//go:build unix

package e2e_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/workloadapi"

	"example.com/rolecall/internal/mesh"
)

// workloadVariable makes this test binary a program that asks the Workload API who it is.
const workloadVariable = "ROLECALL_E2E_WORKLOAD"

// workload does what the variable says. "1": says who it is, and ends when its standard input does, with an exit code of its own.
func workload() int {
	if args := strings.Fields(os.Getenv(workloadVariable)); args[0] == "balance" {
		return readBalance(args[1:])
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	svid, err := workloadapi.FetchX509SVID(ctx)
	if err != nil {
		fmt.Println("error:", err)
		return 1
	}
	fmt.Println(svid.ID, svid.Certificates[0].DNSNames)
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 7
}

func TestAnyProgramRunsInsideTheMesh(t *testing.T) {
	t.Parallel()
	running := sharedMesh(t)
	id := "spiffe://" + running.file.TrustDomain + "/service/billing"
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), upTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, buildRolecall(t), "run", "--dir", running.dir, "--id", id, "--dns", "billing."+running.file.TrustDomain, "--", self)
	cmd.Env = append(os.Environ(), workloadVariable+"=1")
	stderr, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	cmd.Stderr = stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := startCommand(cmd); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	line, _ := bufio.NewReader(stdout).ReadString('\n')
	t.Logf("the program had its certificate after %s", time.Since(began).Round(time.Millisecond))
	if want := id + " [localhost billing." + running.file.TrustDomain + "]\n"; line != want {
		t.Errorf("the program says %q, want %q\n%s", line, want, content(stderr))
	}
	program := func() (mesh.Program, error) {
		f, err := running.readFile()
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range f.Programs {
			if p.ID == id {
				return p, nil
			}
		}
		return mesh.Program{}, errors.New("mesh.json has no such program")
	}
	await(t, "mesh.json has the program", func() error { _, err := program(); return err })
	if p, _ := program(); p.PID != cmd.Process.Pid {
		t.Errorf("mesh.json has %+v, want process %d", p, cmd.Process.Pid)
	}
	_ = stdin.Close()
	err = cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 7 {
		t.Errorf("rolecall run ended with %v, want the program's own exit code 7\n%s", err, content(stderr))
	}
	if p, err := program(); err == nil {
		t.Errorf("mesh.json still has %+v", p)
	}
}
