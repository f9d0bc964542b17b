package supervisor

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
)

// tailSize is how much of the end of a log is kept in memory, to show why a program failed.
const tailSize = 4 << 10

// Log is a file that never grows beyond a bound: when it would, it is renamed to NAME.1, NAME.1 to NAME.2 and so on, and
// the oldest is dropped. Safe for concurrent use.
type Log struct {
	path string
	max  int64
	keep int

	mu     sync.Mutex
	closed bool
	file   *os.File // nil after a failure, until it could be opened again
	size   int64
	tail   []byte
}

// OpenLog opens a log for appending, mode 0600. The file has at most max bytes, and keep older ones stay beside it.
func OpenLog(path string, max int64, keep int) (*Log, error) {
	if max < 1 || keep < 0 {
		return nil, fmt.Errorf("open log %s: at most %d bytes and %d older files make no log", path, max, keep)
	}
	l := &Log{path: path, max: max, keep: keep}
	if err := l.open(); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *Log) open() error {
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return fmt.Errorf("open log: %w", err)
	}
	l.file, l.size = f, info.Size()
	return nil
}

// Write appends p whole to one file. A write longer than the bound is cut to it. It never fails but after Close: what cannot
// be written is dropped, since a full disk must not end the program whose log this is.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return 0, os.ErrClosed
	}
	kept := p[:min(int64(len(p)), l.max)]
	l.tail = append(l.tail, kept...)
	if len(l.tail) > tailSize {
		l.tail = append(l.tail[:0], l.tail[len(l.tail)-tailSize:]...)
	}
	if l.file != nil && l.size+int64(len(kept)) > l.max {
		l.rotate()
	}
	if l.file == nil && l.open() != nil {
		return len(p), nil
	}
	n, err := l.file.Write(kept)
	l.size += int64(n)
	if err != nil {
		l.file.Close()
		l.file = nil
	}
	return len(p), nil
}

// rotate moves the files on by one; the next write opens a new one. A file that cannot be moved is emptied, so that the
// bound holds.
func (l *Log) rotate() {
	l.file.Close()
	l.file = nil
	for n := l.keep; n > 0; n-- {
		// One that is not there yet is no matter.
		_ = os.Rename(l.older(n-1), l.older(n))
	}
	_ = os.Truncate(l.path, 0)
}

func (l *Log) older(n int) string {
	if n == 0 {
		return l.path
	}
	return l.path + "." + strconv.Itoa(n)
}

// Tail returns the last n lines written since the log was opened.
func (l *Log) Tail(n int) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := string(bytes.TrimRight(l.tail, "\n"))
	if text == "" {
		return nil
	}
	lines := strings.Split(text, "\n")
	return lines[max(0, len(lines)-n):]
}

// Close closes the file; writes fail from then on.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}
