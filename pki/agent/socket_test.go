//go:build linux || darwin

package agent

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSocketsThatCannotBeOpenedSayWhy(t *testing.T) {
	t.Parallel()
	a := startAgent(t, nil)
	open := mustMkdir(t, filepath.Join(a.dir, "open"))
	if err := os.Chmod(open, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(mustMkdir(t, filepath.Join(a.dir, "f")), "agent.sock")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, path, want string }{
		{"a path of 104 bytes", filepath.Join(a.dir, strings.Repeat("x", 103-len(a.dir))), "103 at most"},
		{"a directory that others may enter", filepath.Join(open, "agent.sock"), "chmod 700"},
		{"a socket on which an agent listens", a.config.Socket, "another agent listens"},
		{"a file that is no socket", file, "it is not a socket"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if l, err := listen(c.path, false); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("listen: %v, %v; want an error with %q", l, err, c.want)
			}
		})
	}
}

func TestASocketThatNobodyListensOnIsReplaced(t *testing.T) {
	t.Parallel()
	a := startAgent(t, nil)
	path := filepath.Join(a.dir, "left.sock")
	old, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	old.SetUnlinkOnClose(false)
	_ = old.Close()
	fresh, err := listen(path, false)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, error %v; want 0600", info.Mode(), err)
	}
	_ = fresh.Close()
}

// An agent that takes long to end must not take the socket of the next one with it.
func TestASocketThatWasReplacedIsNotRemoved(t *testing.T) {
	t.Parallel()
	dir := startAgent(t, nil).dir
	path := filepath.Join(dir, "late.sock")
	old, err := listen(path, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+".old"); err != nil { // keeps its inode in use: the next socket has another one
		t.Fatal(err)
	}
	fresh, err := listen(path, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := old.Close(); err != nil {
		t.Errorf("close the old one: %v", err)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatalf("the new one is gone with the old one: %v", err)
	}
	_ = conn.Close()
	if err := fresh.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after its end: %v, want the socket to be removed", err)
	}
}

func TestARegistrationIsKeptAcrossRestartsOfTheAgent(t *testing.T) {
	t.Parallel()
	a := startAgent(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		KeepRegistered(ctx, a.config.Control, Registration{ID: a.id("/service/ledger"), PID: os.Getpid()}, a.log)
	}()
	registered := func() bool {
		list, err := List(t.Context(), a.config.Control)
		return err == nil && len(list) == 1 && list[0].ID == a.id("/service/ledger") && list[0].PID == os.Getpid() && !list[0].NotAfter.IsZero()
	}
	eventually(t, "registered", registered)
	a.stop()
	a.serve(t, a.config)
	eventually(t, "registered again after a restart", registered)
	cancel()
	<-kept
	eventually(t, "no longer registered", func() bool { return !registered() })
}
