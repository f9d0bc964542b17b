package mesh_test

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"

	"example.com/rolecall/internal/mesh"
)

func TestEveryPortInUseIsNamedWithItsProcess(t *testing.T) {
	t.Parallel()
	var uses []mesh.Use
	for _, name := range []string{"ledger", "ledger admin"} {
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { lis.Close() })
		uses = append(uses, mesh.Use{Name: name, Port: lis.Addr().(*net.TCPAddr).Port})
	}
	free, release, err := mesh.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	err = mesh.CheckPorts(append(uses, mesh.Use{Name: "orders", Port: free[0]}))
	if err == nil {
		t.Fatal("two ports in use and no error")
	}
	want := []string{"2 ports", uses[0].Address() + " for ledger: ", uses[1].Address() + " for ledger admin: ", "--base-port 0"}
	if runtime.GOOS == "linux" {
		want = append(want, fmt.Sprintf("used by process %d (", os.Getpid()))
	}
	for _, text := range want {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error does not say %q:\n%v", text, err)
		}
	}
	if strings.Contains(err.Error(), "orders") {
		t.Errorf("error names a port that is free:\n%v", err)
	}
}

func TestFreePortsAreDifferentAndFree(t *testing.T) {
	t.Parallel()
	ports, release, err := mesh.FreePorts(20)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	seen := map[int]bool{}
	for _, port := range ports {
		if seen[port] {
			t.Errorf("port %d twice in %v", port, ports)
		}
		seen[port] = true
	}
	if err := mesh.CheckPorts([]mesh.Use{{Name: "x", Port: ports[0]}}); err != nil {
		t.Error(err)
	}
}

// Two who bring up a mesh at the same moment: each listens on what it was given a moment later.
func TestAPortThatWasGivenOutIsGivenToNobodyElse(t *testing.T) {
	t.Parallel()
	ports, release, err := mesh.FreePorts(1)
	if err != nil {
		t.Fatal(err)
	}
	if h, err := mesh.Hold(ports[0]); err == nil {
		_ = h.Close()
		t.Errorf("port %d is given out twice", ports[0])
	}
	lis, err := net.Listen("tcp", mesh.Use{Port: ports[0]}.Address())
	if err != nil {
		t.Fatalf("whoever it was given to cannot listen on it: %v", err)
	}
	defer lis.Close()
	release()
	h, err := mesh.Hold(ports[0])
	if err != nil {
		t.Fatalf("it was given back and is still held: %v", err)
	}
	_ = h.Close()
}
