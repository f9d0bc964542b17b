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

// FreePorts returns n different ports that can be listened on now, and are given to nobody else who asks here until release
// is called or this process ends: from the look to the listen, and while a process that listens is started again.
func FreePorts(n int) (ports []int, release func(), err error) {
	var held []net.PacketConn
	release = func() {
		for _, h := range held {
			_ = h.Close()
		}
	}
	for range 1000 {
		if len(ports) == n {
			return ports, release, nil
		}
		port := lowestFree + rand.IntN(highestFree-lowestFree+1)
		h, err := hold(port)
		if err != nil {
			continue
		}
		held = append(held, h)
		if listenable(port) == nil {
			ports = append(ports, port)
		}
	}
	release()
	return nil, nil, fmt.Errorf("found only %d free ports of %d between %d and %d: name a range with --base-port", len(ports), n, lowestFree, highestFree)
}

// hold takes the UDP port of the same number, which nothing here uses: it stands for the TCP port, as all processes of the
// machine see who has it, and the system gives it back when its holder ends.
func hold(port int) (net.PacketConn, error) {
	return net.ListenPacket("udp", net.JoinHostPort(Loopback, strconv.Itoa(port)))
}

func listenable(port int) error {
	lis, err := net.Listen("tcp", net.JoinHostPort(Loopback, strconv.Itoa(port)))
	if err != nil {
		return err
	}
	return lis.Close()
}
