package session

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"example.com/rolecall/internal/mesh"
)

// maxFile bounds the file when it is read, in bytes: two tokens take ten kilobytes at most.
const maxFile = 64 << 10

// Tokens is what a session goes on with. The JSON form is the file's.
type Tokens struct {
	Username string   `json:"username"`
	Roles    []string `json:"roles"`
	// Through is the SPIFFE ID of the workload that logged the user in.
	Through       string    `json:"through"`
	AccessToken   string    `json:"access_token"`
	AccessExpires time.Time `json:"access_expires"`
	// RefreshAt is from when on the access token is not given out any more, by the clock of this machine.
	RefreshAt      time.Time `json:"refresh_at"`
	RefreshToken   string    `json:"refresh_token"`
	RefreshExpires time.Time `json:"refresh_expires"`
}

// Read reads a session's file without the right to change it. It is ErrNone if nobody is logged in.
func Read(path string) (Tokens, error) { return file(path).read() }

// file is the path of a session's file. Its lock lies beside it.
type file string

// locked runs f while no other process does.
func (p file) locked(f func() error) error {
	if err := os.MkdirAll(filepath.Dir(string(p)), 0o700); err != nil {
		return fmt.Errorf("make the folder of the session: %w", err)
	}
	return mesh.WithLock(string(p)+".lock", f)
}

func (p file) read() (Tokens, error) { return p.readFor(0o077) }

// readAnyway reads a session that others could read too: so that it can be ended.
func (p file) readAnyway() (Tokens, error) { return p.readFor(0) }

// readFor reads a session, unless its mode has one of the bits.
func (p file) readFor(refused fs.FileMode) (Tokens, error) {
	f, err := os.Open(string(p))
	if errors.Is(err, fs.ErrNotExist) {
		return Tokens{}, fmt.Errorf("%w: log in with: rolecall login USER", ErrNone)
	}
	if err != nil {
		return Tokens{}, fmt.Errorf("read session: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Tokens{}, fmt.Errorf("read session: %w", err)
	}
	if mode := info.Mode().Perm(); runtime.GOOS != "windows" && mode&refused != 0 {
		return Tokens{}, fmt.Errorf("session %s has mode %04o, which lets others at it: repair it with 'chmod 600 %s' and log out everywhere, or log in again", p, mode, p)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return Tokens{}, fmt.Errorf("read session: %w", err)
	}
	var tokens Tokens
	if err := json.Unmarshal(data, &tokens); err != nil || len(data) > maxFile || tokens.RefreshToken == "" {
		return Tokens{}, fmt.Errorf("session %s cannot be read: log in again", p) // says nothing of what is in it
	}
	return tokens, nil
}

func (p file) write(tokens Tokens) error {
	data, err := json.MarshalIndent(tokens, "", "  ")
	if err != nil {
		return fmt.Errorf("write session: %w", err)
	}
	return mesh.WriteFile(string(p), append(data, '\n'), 0o600)
}

func (p file) remove() error {
	if err := os.Remove(string(p)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove session: %w", err)
	}
	return nil
}
