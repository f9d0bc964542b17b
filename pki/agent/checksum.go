package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// Bounds of unix:sha256.
const (
	maxExecutable  = 2 << 30
	maxChecksums   = 1000
	hashingPerUser = 2 // files at the same time: hashing the largest takes seconds, and must not stall other users
	hashPiece      = 1 << 20
)

// checksums remembers the hashes of executables, so that a file is read once and not for each message. Safe for
// concurrent use.
type checksums struct {
	hash  func(context.Context, *os.File) (string, error)
	turns *turns

	mu    sync.Mutex
	known map[fileKey]string
}

// fileKey changes whenever the content of a file does.
type fileKey struct {
	device, inode uint64
	size          int64
	changed       time.Time
}

func newChecksums() *checksums {
	return &checksums{hash: hashFile, turns: newTurns(hashingPerUser), known: map[fileKey]string{}}
}

// of returns the SHA-256 of the file that the peer's process runs, in hex.
func (c *checksums) of(ctx context.Context, p peer) (string, error) {
	if sum, ok, err := c.lookUp(p.pid); ok || err != nil {
		return sum, err
	}
	// The file is open in a turn only: whoever waits has no descriptor of ours.
	done, err := c.turns.wait(ctx, p.uid)
	if err != nil {
		return "", err
	}
	defer done()
	if sum, ok, err := c.lookUp(p.pid); ok || err != nil {
		return sum, err // another stream hashed it meanwhile
	}
	return c.read(ctx, p.pid)
}

// lookUp returns the hash if it is known.
func (c *checksums) lookUp(pid int) (sum string, ok bool, err error) {
	f, err := openExecutable(pid)
	if err != nil {
		return "", false, err
	}
	defer func() { _ = f.Close() }()
	key, err := keyOf(f)
	if err != nil {
		return "", false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	sum, ok = c.known[key]
	return sum, ok, nil
}

// read hashes the file and remembers the result.
func (c *checksums) read(ctx context.Context, pid int) (string, error) {
	f, err := openExecutable(pid)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	key, err := keyOf(f)
	if err != nil {
		return "", err
	}
	sum, err := c.hash(ctx, f)
	if err != nil {
		return "", err
	}
	if again, err := keyOf(f); err != nil || again != key {
		return "", fmt.Errorf("%s changed while it was read", f.Name())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.known) >= maxChecksums {
		clear(c.known)
	}
	c.known[key] = sum
	return sum, nil
}

// hashFile reads the whole file, or as much as there is time for.
func hashFile(ctx context.Context, f *os.File) (string, error) {
	hash := sha256.New()
	for size := int64(0); ; {
		n, err := io.CopyN(hash, f, hashPiece)
		if size += n; size > maxExecutable {
			return "", fmt.Errorf("%s is larger than %d bytes", f.Name(), maxExecutable)
		}
		if errors.Is(err, io.EOF) {
			return hex.EncodeToString(hash.Sum(nil)), nil
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return "", err
		}
	}
}
