package mesh

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
)

// Free ports are looked for below the ranges that kernels give to outgoing connections (32768 up on Linux, 49152 up
// elsewhere), so that none is taken by a connection between the look and the listen.
const lowestFree, highestFree = 10240, 32767

// Use says what a port is for: "ledger" or "ledger admin".
type Use struct {
	Name string
	Port int
}

// Loopback is where everything that `up` starts listens.
const Loopback = "127.0.0.1"

// Address returns host:port on the loopback interface.
func (u Use) Address() string { return net.JoinHostPort(Loopback, strconv.Itoa(u.Port)) }

// CheckPorts looks whether every port can be listened on. The error names each one that cannot, what it was for, and the
// process that has it where that can be told.
func CheckPorts(uses []Use) error {
	var taken []string
	for _, use := range uses {
		err := listenable(use.Port)
		if err == nil {
			continue
		}
		line := fmt.Sprintf("  %s for %s: ", use.Address(), use.Name)
		if owner, ok := portOwner(use.Port); ok {
			line += "used by " + owner
		} else {
			line += err.Error()
		}
		taken = append(taken, line)
	}
	if len(taken) == 0 {
		return nil
	}
	noun := "port"
	if len(taken) > 1 {
		noun = "ports"
	}
	return fmt.Errorf("%d %s cannot be listened on:\n%s\nstop what uses them, choose others with --base-port, or any with --base-port 0", len(taken), noun, strings.Join(taken, "\n"))
}

// FreePorts returns n different ports that can be listened on now.
func FreePorts(n int) ([]int, error) {
	seen := make(map[int]bool, n)
	ports := make([]int, 0, n)
	for range 1000 {
		if len(ports) == n {
			return ports, nil
		}
		port := lowestFree + rand.IntN(highestFree-lowestFree+1)
		if seen[port] || listenable(port) != nil {
			continue
		}
		seen[port] = true
		ports = append(ports, port)
	}
	return nil, fmt.Errorf("found only %d free ports of %d between %d and %d: name a range with --base-port", len(ports), n, lowestFree, highestFree)
}

func listenable(port int) error {
	lis, err := net.Listen("tcp", net.JoinHostPort(Loopback, strconv.Itoa(port)))
	if err != nil {
		return err
	}
	return lis.Close()
}
