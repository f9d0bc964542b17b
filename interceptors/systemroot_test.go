package interceptors_test

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"example.com/rolecall/rolecalltest"
)

// TestARootOfTheOperatingSystemIsNotTrusted makes a CA a root of the operating system by SSL_CERT_FILE, which a process
// reads once: it runs in one of its own.
func TestARootOfTheOperatingSystemIsNotTrusted(t *testing.T) {
	t.Parallel()
	const child, done = "ROLECALL_TEST_SYSTEM_ROOT", "REFUSED THE ROOT OF THE SYSTEM"
	if os.Getenv(child) != "" {
		refuseSystemRoot(t, os.Getenv("SSL_CERT_FILE"))
		t.Log(done)
		return
	}
	if runtime.GOOS == "darwin" || runtime.GOOS == "windows" {
		t.Skipf("on %s roots come from a store of the system that SSL_CERT_FILE does not change", runtime.GOOS)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), child+"=1", "SSL_CERT_FILE="+filepath.Join(t.TempDir(), "roots.pem"), "SSL_CERT_DIR="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), done) {
		t.Fatalf("the process ended with %v and said\n%s", err, out)
	}
}

func refuseSystemRoot(t *testing.T, file string) {
	other := rolecalltest.NewCA(t, "mesh.local")
	must(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: other.Root().Raw}), 0o600))
	roots, err := x509.SystemCertPool()
	must(t, err)
	cert, key := other.Issue(reader)
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		t.Fatalf("the operating system does not trust the root, so that this shows nothing: %v", err)
	}
	m := newMesh(t)
	handshake.check(t, m.shake(t, m.cert(cert, key), nil))
	m.audit.find(t, map[string]any{"event": "handshake", "verdict": "denied", "reason": "untrusted"})
}
