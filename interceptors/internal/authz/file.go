package authz

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

// settle is how long a file must be left alone before it is read, so that a half-written one is not; settleAtMost bounds
// how long a file that is written all the time is put off.
const (
	settle       = 50 * time.Millisecond
	settleAtMost = 500 * time.Millisecond
)

// kubernetesData is the symbolic link that Kubernetes swaps when a mounted ConfigMap or Secret changes: the file itself
// is a link through it and sees no event.
const kubernetesData = "..data"

// File is a bindings file that is read again whenever it changes.
type File struct {
	path    string
	apply   func(*Bindings, error)
	watcher *fsnotify.Watcher // nil if the system gives none
	failure error             // why there is none

	last [sha256.Size]byte // of the last content that was valid
	bad  bool              // the last read failed

	stop    chan struct{}
	stopped chan struct{}
	once    sync.Once
}

// WatchFile reads a bindings file, which must be valid, and goes on watching it: the directory's events, for files that
// are written in place, renamed over the old one, or swapped by Kubernetes, and the file itself at every interval in case
// an event is lost. apply gets each new content, and the error of each read that failed while the last good content stays
// in force; content that did not change is not applied again. apply runs in one goroutine, never twice at a time, and
// must not call Close. The interval must be positive.
func WatchFile(path string, interval time.Duration, apply func(*Bindings, error)) (*File, *Bindings, error) {
	if interval <= 0 {
		return nil, nil, fmt.Errorf("watch bindings: the interval is %s, it must be positive", interval)
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, nil, fmt.Errorf("watch bindings: %w", err)
	}
	f := &File{path: absolute, apply: apply, stop: make(chan struct{}), stopped: make(chan struct{})}
	f.watch() // before the first read, so that no change falls between the two
	bindings, sum, err := readBindings(absolute)
	if err != nil {
		f.unwatch()
		return nil, nil, err
	}
	f.last = sum
	go f.run(interval)
	return f, bindings, nil
}

// Unwatched returns why changes are seen at the interval only, or nil if the directory is watched: a system has a limited
// number of watches.
func (f *File) Unwatched() error { return f.failure }

// Close ends the watch. When it returns, apply is not running and will not be called again.
func (f *File) Close() error {
	f.once.Do(func() { close(f.stop) })
	<-f.stopped
	return nil
}

// watch asks for the events of the file's directory.
func (f *File) watch() {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		f.failure = fmt.Errorf("watch %s: %w", filepath.Dir(f.path), err)
		return
	}
	if err := watcher.Add(filepath.Dir(f.path)); err != nil {
		f.failure = errors.Join(fmt.Errorf("watch %s: %w", filepath.Dir(f.path), err), watcher.Close())
		return
	}
	f.watcher = watcher
}

// unwatch gives the watch back.
func (f *File) unwatch() {
	if f.watcher != nil {
		_ = f.watcher.Close() // nothing was written through it
	}
}

// run waits for changes until Close.
func (f *File) run(interval time.Duration) {
	defer close(f.stopped)
	defer f.unwatch()
	var events chan fsnotify.Event
	var failures chan error
	if f.watcher != nil {
		events, failures = f.watcher.Events, f.watcher.Errors
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var due <-chan time.Time // when to read; nil: nothing happened
	var first time.Time      // the first event since the last read
	touch := func() {
		if due == nil {
			first = time.Now()
		}
		due = time.After(min(settle, max(0, settleAtMost-time.Since(first))))
	}
	for {
		select {
		case <-f.stop:
			return
		case event := <-events:
			if f.concerns(event) {
				touch()
			}
		case <-failures: // events were lost, perhaps one of ours
			touch()
		case <-tick.C:
			if f.watcher != nil {
				_ = f.watcher.Add(filepath.Dir(f.path)) // the directory may be another one by now; if not, nothing changes
			}
			touch()
		case <-due:
			due = nil
			f.read()
		}
	}
}

// concerns reports whether an event in the directory may have changed what the path leads to.
func (f *File) concerns(event fsnotify.Event) bool {
	name := filepath.Base(event.Name)
	return name == filepath.Base(f.path) || strings.HasPrefix(name, kubernetesData)
}

// read reads the file and applies what is new.
func (f *File) read() {
	bindings, sum, err := readBindings(f.path)
	switch {
	case err != nil:
		f.bad = true
		f.apply(nil, err)
	case f.bad || sum != f.last:
		f.bad, f.last = false, sum
		f.apply(bindings, nil)
	}
}

// readBindings reads and parses a file, and returns the SHA-256 of what it read.
func readBindings(path string) (*Bindings, [sha256.Size]byte, error) {
	data, err := readAtMost(path, MaxBindings)
	if err != nil {
		return nil, [sha256.Size]byte{}, fmt.Errorf("read bindings: %w", err)
	}
	bindings, err := ParseBindings(data)
	if err != nil {
		return nil, [sha256.Size]byte{}, fmt.Errorf("%s: %w", path, err)
	}
	return bindings, sha256.Sum256(data), nil
}

// readAtMost reads a regular file whole, or fails if it is larger than limit bytes.
func readAtMost(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return data, nil
}
