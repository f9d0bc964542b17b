package proof

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// markAhead is by how many seconds the mark is moved beyond the proof that makes it move: this seldom is it written.
const markAhead = 2

// mark is a file that says until when proofs may have been accepted: none that was issued later has been. A proof that was is
// accepted only after the file has been moved, so that a process that starts again, after whatever end and with whatever
// clock, knows which proofs it cannot judge. A second process would move it back: a lock on a file beside it keeps that one away.
// Safe for concurrent use.
type mark struct {
	path    string
	through atomic.Int64 // seconds since 1970
	lock    *os.File
	mu      sync.Mutex // of who writes
	closed  bool
}

// errLocked is what lockFile answers when another process, or another feature of this one, has the file.
var errLocked = errors.New("another process has it")

// openMark reads the file, or makes it with the given time if there is none, and sees that it can be written. It waits for as
// long as given until another process, which is ending, has let go of it.
func openMark(path string, start int64, wait time.Duration) (*mark, error) {
	lock, err := waitForLock(path+".lock", wait)
	if err != nil {
		if errors.Is(err, errLocked) {
			return nil, fmt.Errorf("the mark of accepted proofs %s is that of another process, which still runs: each replica needs a MarkFile of its own, or a Window that all share; or end the other one first", path)
		}
		return nil, fmt.Errorf("lock the mark of accepted proofs: %w", err)
	}
	m := &mark{path: path, lock: lock}
	if err := m.open(start); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return m, nil
}

func (m *mark) open(start int64) error {
	text, err := os.ReadFile(m.path)
	through := start
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fmt.Errorf("read the mark of accepted proofs: %w", err)
	default:
		if through, err = readMark(string(text)); err != nil {
			return fmt.Errorf("%s is not a mark of accepted proofs: %w; remove it, and proofs made before the start are refused instead", m.path, err)
		}
	}
	return m.write(through)
}

// waitForLock takes a lock that the kernel takes back when the process ends, however it ends. The file stays: removing it would
// let two have it.
func waitForLock(path string, wait time.Duration) (*os.File, error) {
	for deadline := time.Now().Add(wait); ; time.Sleep(20 * time.Millisecond) {
		lock, err := lockFile(path)
		if !errors.Is(err, errLocked) || time.Now().After(deadline) {
			return lock, err
		}
	}
}

// close lets go of the file. It is not moved any more.
func (m *mark) close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return m.lock.Close()
}

// markHead is the first word of the file.
const markHead = "rolecall-proofs-accepted-through"

func readMark(text string) (int64, error) {
	number, ok := strings.CutPrefix(text, markHead+" ")
	number, ended := strings.CutSuffix(number, "\n")
	if !ok || !ended || len(number) > 12 {
		return 0, fmt.Errorf("it does not hold the line %q with a number", markHead)
	}
	n, err := strconv.ParseUint(number, 10, 62)
	if err != nil || strconv.FormatUint(n, 10) != number {
		return 0, fmt.Errorf("%q is not a number of seconds", number)
	}
	return int64(n), nil
}

// cover returns once the mark is at or beyond the time at which a proof was issued, in seconds since 1970. After an error the
// proof must not be accepted.
func (m *mark) cover(issued int64) error {
	if issued <= m.through.Load() {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.closed:
		return errClosed
	case issued <= m.through.Load():
		return nil
	}
	return m.write(issued + markAhead)
}

// write replaces the file, and is not done before it would survive a power cut.
func (m *mark) write(through int64) error {
	if err := replaceFile(m.path, fmt.Sprintf("%s %d\n", markHead, through)); err != nil {
		return fmt.Errorf("move the mark of accepted proofs: %w", err)
	}
	m.through.Store(through)
	return nil
}

func replaceFile(path, text string) (err error) {
	next := path + ".new"
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(next, path); err != nil {
		return err
	}
	if runtime.GOOS == "windows" {
		return nil // has no way to write a folder through
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
