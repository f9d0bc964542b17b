//go:build unix

package mesh

import (
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
)

func TestTheLockFileHoldsNoPassword(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, args, want string }{
		{"a value of its own", "rolecall up --database postgres://a:secret@h/d --base-port 0", "rolecall up --database ... --base-port 0"},
		{"a value after =", "rolecall up --database=postgres://h/d?password=secret", "rolecall up --database=..."},
		{"a flag without its value", "rolecall up --database", "rolecall up --database"},
		{"a file", "rolecall up --database-file url", "rolecall up --database-file url"},
	} {
		if got := commandLine(strings.Fields(c.args)); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

// Whoever holds the lock of mesh.json and does not go on, stopped in a debugger for one, stalls nobody for good.
func TestAChangeOfMeshJSONGivesUpAfterAWhile(t *testing.T) {
	t.Parallel()
	d, err := Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	held, err := os.OpenFile(d.file("mesh.json.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := tryLock(held, false); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		err := locked(d, func() error { t.Error("ran beside another one"); return nil })
		if !errors.Is(err, errLocked) || !strings.Contains(err.Error(), "mesh.json.lock") {
			t.Errorf("got %v, want the name of the lock", err)
		}
	})
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	ran := false
	if err := locked(d, func() error { ran = true; return nil }); err != nil || !ran {
		t.Errorf("after its end: ran %v, %v", ran, err)
	}
}
