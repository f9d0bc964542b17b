//go:build unix

package e2e_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"syscall"
	"testing"
	"time"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/internal/health"
	"example.com/rolecall/pki"
)

// shortLife makes certificates that are renewed every seven seconds.
var shortLife = []string{"--leaf-ttl", "15s", "--issuer-ttl", "90s"}

// renewal bounds the wait for a renewal below, where certificates live longer: nobody may run out of one while an agent or an
// authority is started again, on a machine that is busy.
const renewal = time.Minute

func TestCrashedProcessesComeBack(t *testing.T) {
	t.Parallel()
	running := startMesh(t, "--leaf-ttl", "30s", "--issuer-ttl", "3m")
	alice := running.caller(t, "alice")
	ledger := alice.ledger(t)
	_, account := openAccounts(t, ledger, "")
	balance := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err := ledger.GetBalance(ctx, &ledgerv1.GetBalanceRequest{AccountId: account})
		return err
	}
	// The subtests follow each other: each disturbs the whole mesh.
	t.Run("a killed ledger is started again with the same identity", func(t *testing.T) {
		was := running.service(t, "ledger")
		kill(t, was.PID)
		await(t, "mesh.json has the new process", func() error {
			f, err := running.readFile()
			if err != nil {
				return err
			}
			if now, _ := f.Service("ledger"); now.PID == was.PID || now.Restarts != 1 || now.ID != was.ID {
				return fmt.Errorf("mesh.json has %+v", now)
			}
			return nil
		})
		// The client takes no other server than one that proves the ID.
		await(t, "calls on the same client work again", balance)
		if got := alice.shown(t, "ledger").URIs[0].String(); got != was.ID {
			t.Errorf("the ledger is %s now, and was %s", got, was.ID)
		}
	})
	for _, name := range []string{"agent", "authority"} {
		t.Run("services go on without the "+name+", and renew once it is back", func(t *testing.T) {
			was := running.pids()[name]
			kill(t, was)
			await(t, "the "+name+" is back", func() error {
				if err := balance(); err != nil {
					t.Fatalf("a call while the %s is gone: %v", name, err)
				}
				f, err := running.readFile()
				if err != nil {
					return err
				}
				if now := (&runningMesh{file: f}).pids()[name]; now == was {
					return fmt.Errorf("mesh.json still has process %d", now)
				}
				return nil
			})
			back := time.Now()
			for _, service := range []string{"ledger", "users", "tokens", "keys", "orders"} {
				awaitFor(t, service+" has a new certificate", renewal, func() error {
					if err := balance(); err != nil {
						t.Fatalf("a call while certificates are renewed: %v", err)
					}
					if cert := alice.shown(t, service); !pki.IssuedAt(cert).After(back) {
						return fmt.Errorf("the certificate is of %s, the %s is back since %s", pki.IssuedAt(cert), name, back)
					}
					return nil
				})
			}
		})
	}
}

// shown returns the certificate that a service shows to a new connection.
func (c *caller) shown(t *testing.T, service string) *x509.Certificate {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s := c.mesh.service(t, service)
	answer, err := health.Check(ctx, c.guard, s.Address, parseID(t, s.ID))
	if err != nil {
		t.Fatalf("health of %s: %v", service, err)
	}
	return answer.Certificate
}

// kill ends a process without letting it clean up.
func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatalf("kill process %d: %v", pid, err)
	}
}

// gone waits until a process is no more.
func gone(t *testing.T, name string, pid int) {
	t.Helper()
	await(t, fmt.Sprintf("%s, process %d, has ended", name, pid), func() error {
		if running(pid) {
			return errors.New("it runs")
		}
		return nil
	})
}
