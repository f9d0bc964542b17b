//go:build unix

package pki

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// t.Setenv allows no other test beside this one.
func TestASecretThatSystemdHandedOverIsReadAndOneThatOthersMayReadIsNot(t *testing.T) {
	credentials, elsewhere := t.TempDir(), t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", credentials+"/")
	below := filepath.Join(credentials, "below")
	must(t, os.Mkdir(below, 0o700))
	for _, tc := range []struct {
		mode    os.FileMode
		private bool // its owner alone may read it: good anywhere
		handed  bool // good in the folder that systemd names
	}{
		{0o400, true, true}, {0o600, true, true}, {0o440, false, true}, {0o640, false, true},
		{0o460, false, false}, {0o444, false, false}, {0o604, false, false}, {0o644, false, false},
	} {
		for dir, want := range map[string]bool{credentials: tc.handed, below: tc.private, elsewhere: tc.private} {
			path := filepath.Join(dir, fmt.Sprintf("credential-%04o", tc.mode))
			must(t, os.WriteFile(path, []byte("secret"), tc.mode))
			must(t, os.Chmod(path, tc.mode)) // past the umask
			if _, err := readSecret(path); (err == nil) != tc.private {
				t.Errorf("readSecret of %s: %v", path, err)
			}
			if _, err := readHandedSecret(path); (err == nil) != want {
				t.Errorf("readHandedSecret of %s: %v", path, err)
			}
			_, _, err := ReadTicket(path)
			if refused := strings.Contains(err.Error(), "has mode"); refused == want {
				t.Errorf("ReadTicket of %s: %v", path, err)
			}
		}
	}
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	path := filepath.Join(credentials, "credential-0440")
	if _, err := readHandedSecret(path); err == nil {
		t.Error("a file of our own that a group may read, and systemd names no folder: it was read")
	}
	if os.Geteuid() == 0 { // root's own group, and the file of somebody else
		must(t, os.Chown(path, 12345, -1))
		t.Setenv("CREDENTIALS_DIRECTORY", credentials)
		if _, err := readHandedSecret(path); err == nil {
			t.Error("the file of another user that a group may read was read")
		}
	}
}

// To a process that is not root, a file of root's that its group may read was handed over by root: the group's bits are the
// mask of an access list.
func TestWhoseFileAGroupMayRead(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		root, own, named, want bool
	}{
		{root: true, want: true}, {root: true, own: true}, {own: true}, {},
		{root: true, own: true, named: true, want: true}, {own: true, named: true, want: true}, {named: true}, {root: true, named: true, want: true},
	} {
		if got := groupMayRead(tc.root, tc.own, tc.named); got != tc.want {
			t.Errorf("root's %v, ours %v, in the folder that systemd names %v: %v, want %v", tc.root, tc.own, tc.named, got, tc.want)
		}
	}
}
