package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// network is two machines with a cable between them: two network namespaces and a pair of virtual interfaces.
type network struct {
	names     [2]string // of the namespaces
	addresses [2]string // IP addresses
}

// newNetwork makes two network namespaces. The end of the test removes them.
func newNetwork(t *testing.T) *network {
	t.Helper()
	if os.Getuid() != 0 {
		missing(t, "two network namespaces are needed, and only root may make them")
	}
	ip, err := exec.LookPath("ip")
	if err != nil {
		missing(t, "two network namespaces are needed, and ip (iproute2) is not installed; scripts/clients installs it")
	}
	run := func(args ...string) error {
		out, err := exec.Command(ip, args...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, out)
		}
		return nil
	}
	n := &network{addresses: [2]string{"10.231.7.1", "10.231.7.2"}}
	var cables [2]string
	for i := range n.names {
		n.names[i] = fmt.Sprintf("rolecall-%d-%d", os.Getpid(), i)
		cables[i] = fmt.Sprintf("rc%d.%d", os.Getpid(), i)
		if err := run("netns", "add", n.names[i]); err != nil {
			missing(t, "this machine makes no network namespaces: %v", err)
		}
		t.Cleanup(func() {
			if err := run("netns", "del", n.names[i]); err != nil {
				t.Error(err)
			}
		})
	}
	if err := run("link", "add", cables[0], "netns", n.names[0], "type", "veth", "peer", "name", cables[1], "netns", n.names[1]); err != nil {
		missing(t, "this machine makes no virtual interfaces: %v", err)
	}
	for i, name := range n.names {
		for _, line := range []string{"addr add " + n.addresses[i] + "/24 dev " + cables[i], "link set " + cables[i] + " up", "link set lo up"} {
			if err := run(append([]string{"-n", name}, strings.Fields(line)...)...); err != nil {
				t.Fatal(err)
			}
		}
	}
	return n
}

// missing skips the test for want of something that no script installs, and fails it where CI is to have everything.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// on returns what a command line begins with that runs on one of the machines.
func (n *network) on(machine int) []string { return []string{"ip", "netns", "exec", n.names[machine]} }

// TestSecondHostJoinsByTicket puts the authority on one machine, agent and ledger on another, and calls from the first.
func TestSecondHostJoinsByTicket(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	h := newByHand(t, "shop.internal")
	h.create(t, "168h")
	h.authority = n.addresses[0] + ":7441"
	registrations := h.path("registrations.yaml")
	h.write(t, registrations, fmt.Sprintf("requesters:\n  - id: %s\n    allow: [\"/service/ledger\"]\n    ipAddresses: [\"10.231.7.0/24\"]\n", h.id("/agent/host2")))
	h.prefix = n.on(0)
	authority := h.startAuthority(t, "--registrations", registrations)

	h.prefix = n.on(1)
	listen := n.addresses[1] + ":7445"
	agent := h.startAgent(t, "host2", h.ledgerEntry(n.addresses[1]))
	h.startLedger(t, agent, listen)

	alice := h.issue(t, "alice")
	grpcurl := tool(t, "grpcurl") // which may have to be built
	var out string
	await(t, "the ledger of the other machine answers", func() error {
		args := append(n.on(0)[1:], grpcurl, "-max-time", "5", "-cacert", filepath.Join(h.ca, "bundle.pem"), "-cert", alice.Cert, "-key", alice.Key,
			"-import-path", filepath.Join(repository(t), "proto"), "-proto", "ledger/v1/ledger.proto",
			"-d", withRequestID(`{"currency": "EUR"}`), listen, "ledger.v1.LedgerService/OpenAccount")
		said, err := exec.Command("ip", args...).CombinedOutput()
		if out = string(said); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	if !strings.Contains(out, `"owner": "`+alice.ID+`"`) {
		t.Errorf("the account is not alice's:\n%s", out)
	}
	// From here, where neither machine's network is, there is nobody: they have really met over the cable.
	if out, code := runRolecall(t, "probe", listen, "--id", h.id("/service/ledger"), "--cert", alice.Cert, "--key", alice.Key, "--bundle", filepath.Join(h.ca, "bundle.pem"), "--timeout", "1s"); code != 1 {
		t.Errorf("the ledger can be reached from outside: exit code %d\n%s", code, out)
	}
	if said := content(authority.log); strings.Contains(said, "PRIVATE KEY") {
		t.Error("the authority logged a key")
	}
	t.Run("a machine that nobody registered joins and gets nothing", func(t *testing.T) {
		agent := h.startAgent(t, "host3", h.ledgerEntry(n.addresses[1]))
		await(t, "the agent has its own certificate", func() error { _, err := os.Stat(filepath.Join(agent.dir, "agent.pem")); return err })
		out, code := runRolecallWith(t, []string{"SPIFFE_ENDPOINT_SOCKET=unix://" + agent.socket}, "probe", listen, "--id", h.id("/service/ledger"), "--timeout", "3s")
		if code != 1 {
			t.Errorf("a process of that machine has an identity: exit code %d\n%s", code, out)
		}
	})
}
