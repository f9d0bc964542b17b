package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Selector is one thing that must be true of a process, in SPIRE's syntax: unix:uid:1000, unix:gid:1000,
// unix:path:/usr/bin/x, unix:sha256:HEX. Path and hash are those of the file that the process runs; they are known on
// Linux only.
type Selector struct {
	kind  string
	value string
}

// ParseSelector reads a selector.
func ParseSelector(text string) (Selector, error) {
	parts := strings.SplitN(text, ":", 3)
	if len(parts) != 3 || parts[0] != "unix" {
		return Selector{}, fmt.Errorf("selector %q: unix:uid:N, unix:gid:N, unix:path:/FILE or unix:sha256:HEX is needed", text)
	}
	s := Selector{parts[1], parts[2]}
	var err error
	switch s.kind {
	case "uid", "gid":
		var n uint64
		if n, err = strconv.ParseUint(s.value, 10, 32); err == nil && strconv.FormatUint(n, 10) != s.value {
			err = errors.New("write it without leading zeros or signs")
		}
	case "path":
		if !filepath.IsAbs(s.value) || filepath.Clean(s.value) != s.value {
			err = errors.New("an absolute path without . or .. is needed")
		}
	case "sha256":
		var sum []byte
		if sum, err = hex.DecodeString(s.value); err == nil && len(sum) != sha256.Size {
			err = errors.New("64 hexadecimal digits are needed")
		}
		s.value = strings.ToLower(s.value)
	default:
		err = errors.New("the kind must be uid, gid, path or sha256")
	}
	if err == nil && !executablesKnown && (s.kind == "path" || s.kind == "sha256") {
		err = errors.New("which file a process runs is known on Linux only; use unix:uid or unix:gid")
	}
	if err != nil {
		return Selector{}, fmt.Errorf("selector %q: %w", text, err)
	}
	return s, nil
}

// String returns the selector as it is written.
func (s Selector) String() string { return "unix:" + s.kind + ":" + s.value }

// cost ranks kinds by what it takes to evaluate them: what the kernel has said already, a look at a file, all of its bytes.
func (s Selector) cost() int {
	switch s.kind {
	case "uid", "gid":
		return 0
	case "path":
		return 1
	}
	return 2
}

// look is one look at a peer: what many entries ask about it is found out once.
type look struct {
	peer
	sums *checksums

	asked   bool
	path    string
	pathErr error

	hashed bool
	sum    string
	sumErr error
}

// executable returns the path of the file that the process runs.
func (l *look) executable() (string, error) {
	if !l.asked {
		l.asked = true
		l.path, l.pathErr = executablePath(l.pid)
	}
	return l.path, l.pathErr
}

// checksum returns the SHA-256 of the file that the process runs.
func (l *look) checksum(ctx context.Context) (string, error) {
	if !l.hashed {
		l.hashed = true
		l.sum, l.sumErr = l.sums.of(ctx, l.peer)
	}
	return l.sum, l.sumErr
}

// fits tells whether it is true of the peer.
func (s Selector) fits(ctx context.Context, at *look) (bool, error) {
	switch s.kind {
	case "uid":
		return strconv.FormatUint(uint64(at.uid), 10) == s.value, nil
	case "gid":
		return strconv.FormatUint(uint64(at.gid), 10) == s.value, nil
	case "path":
		if path, err := at.executable(); err != nil || path != s.value {
			return false, err
		}
		return runs(at.pid, s.value)
	case "sha256":
		sum, err := at.checksum(ctx)
		return err == nil && sum == s.value, err
	}
	return false, nil
}

// runs tells whether the process runs the file that lies at path for the agent. The name alone would not do: in a mount
// namespace of its own, which any user can make, a process has whatever file it likes at that path.
func runs(pid int, path string) (bool, error) {
	name, err := executablePath(pid)
	if err != nil || name != path {
		return false, err
	}
	f, err := openExecutable(pid)
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	running, err := f.Stat()
	if err != nil {
		return false, err
	}
	lies, err := os.Stat(path)
	if err != nil {
		return false, err
	}
	return os.SameFile(running, lies), nil
}
