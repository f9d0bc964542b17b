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

// fits tells whether it is true of the peer.
func (s Selector) fits(ctx context.Context, p peer, sums *checksums) (bool, error) {
	switch s.kind {
	case "uid":
		return strconv.FormatUint(uint64(p.uid), 10) == s.value, nil
	case "gid":
		return strconv.FormatUint(uint64(p.gid), 10) == s.value, nil
	case "path":
		return runs(p.pid, s.value)
	case "sha256":
		sum, err := sums.of(ctx, p)
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
