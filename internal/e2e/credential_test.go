//go:build unix

package e2e_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestTheCredentialMayLieElsewhere runs the authority as the unit in deploy/systemd does: what opens its keys is lent to it
// in a folder of its own, read-only, and is not in the folder of the authority or in a copy of that.
func TestTheCredentialMayLieElsewhere(t *testing.T) {
	t.Parallel()
	h := newByHand(t, "shop.internal")
	h.create(t, "168h")
	lent := h.path("credentials")
	if err := os.Mkdir(lent, 0o700); err != nil {
		t.Fatal(err)
	}
	credential := filepath.Join(lent, "credential")
	if err := os.Rename(filepath.Join(h.ca, "credential"), credential); err != nil {
		t.Fatal(err)
	}
	// systemd leaves it to root, and an access control list, which the mode shows as that of the group, lets the service
	// read it; where the file system has no such lists the mode is 0400.
	if err := os.Chmod(credential, 0o440); err != nil {
		t.Fatal(err)
	}
	issue := []string{"pki", "issue", "--ca", h.ca, "--id", h.id("/operator/alice"), "--cert", h.path("alice.crt"), "--key", h.path("alice.key")}
	mustFail(t, []string{"credential"}, issue...)
	issue = append(issue, "--credential", credential)
	if os.Geteuid() == 0 {
		mustFail(t, []string{"mode 0440"}, issue...) // nobody has said that systemd made it
	}
	if out, code := runRolecallWith(t, []string{"CREDENTIALS_DIRECTORY=" + lent}, issue...); code != 0 {
		t.Fatalf("rolecall %q with $CREDENTIALS_DIRECTORY: exit code %d\n%s", issue, code, out)
	}
	if err := os.Chmod(credential, 0o400); err != nil {
		t.Fatal(err)
	}
	h.startAuthority(t, "--credential", credential)
	await(t, "the authority serves", func() error {
		out, code := runRolecall(t, "probe", h.authority, "--service", "authority", "--cert", h.path("alice.crt"), "--key", h.path("alice.key"), "--bundle", filepath.Join(h.ca, "bundle.pem"))
		if code != 0 {
			return errors.New(out)
		}
		return nil
	})
	if _, err := os.Stat(filepath.Join(h.ca, "credential")); err == nil {
		t.Error("there is a credential in the folder of the authority again")
	}
}
