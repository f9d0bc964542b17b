package pki_test

import (
	"bytes"
	"os"
	"os/exec"
	"testing"
)

// openssl runs the command of that name, which is the second opinion on all that this package writes. Where it is not
// installed the test is skipped; in CI it must be there.
func openssl(t *testing.T, args ...string) string {
	t.Helper()
	requireOpenSSL(t)
	var out bytes.Buffer
	cmd := exec.Command("openssl", args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("openssl %q: %v\n%s", args, err, out.String())
	}
	return out.String()
}

func requireOpenSSL(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("openssl is not installed, which CI must have")
		}
		t.Skip("openssl is not installed")
	}
}
