package agentd

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Times of watching a file.
const (
	fileInterval = 10 * time.Second // at which it is read again, in case an event was missed
	fileSettles  = 50 * time.Millisecond
	fileSettled  = 500 * time.Millisecond // a file that is written all the time is read nevertheless
)

// kubernetesData is the symbolic link that Kubernetes swaps when a mounted ConfigMap or Secret changes: the file itself
// is a link through it and sees no event.
const kubernetesData = "..data"

// watchedFile is a file that is read again whenever it changes: written in place, renamed over the old one, or swapped by
// Kubernetes. What cannot be used is reported once, and what was read before stays in force.
type watchedFile struct {
	path     string
	what     string // for the log
	limit    int64  // bytes
	interval time.Duration
	deaf     bool // events are not listened for
	use      func(data []byte) error
	log      *slog.Logger

	last     [sha256.Size]byte // of the content that is in force
	reported string            // the last error
}

// read reads the file and uses its content if it is new.
func (w *watchedFile) read() error {
	data, err := readAtMost(w.path, w.limit)
	if err != nil {
		return fmt.Errorf("read %s: %w", w.what, err)
	}
	sum := sha256.Sum256(data)
	if sum == w.last {
		return nil
	}
	if err := w.use(data); err != nil {
		return fmt.Errorf("read %s %s: %w", w.what, w.path, err)
	}
	w.last = sum
	return nil
}

// readAgain reads the file and reports an error that was not reported yet.
func (w *watchedFile) readAgain() {
	before := w.last
	err := w.read()
	switch {
	case err != nil && err.Error() != w.reported:
		w.log.Error(w.what+" cannot be used; what was read before stays in force (to take it back, write a file that says nothing)",
			"path", w.path, "error", err)
		w.reported = err.Error()
	case err == nil && w.last != before:
		w.log.Info(w.what+" read anew", "path", w.path)
		w.reported = ""
	case err == nil && w.reported != "":
		w.log.Info(w.what+" is again what it was", "path", w.path)
		w.reported = ""
	}
}

// watch reads the file again whenever it changes, until ctx ends.
func (w *watchedFile) watch(ctx context.Context) {
	watcher, err := w.listen()
	if err != nil {
		w.log.Warn("changes of "+w.what+" are seen at an interval only", "interval", w.interval, "error", err)
	}
	var events chan fsnotify.Event
	var lost chan error
	if watcher != nil {
		defer func() { _ = watcher.Close() }()
		events, lost = watcher.Events, watcher.Errors
	}
	tick := time.NewTicker(w.interval)
	defer tick.Stop()
	due := time.After(0) // what has changed before events were listened for
	var first time.Time
	touch := func() {
		if due == nil {
			first = time.Now()
		}
		due = time.After(min(fileSettles, max(0, fileSettled-time.Since(first))))
	}
	for {
		select {
		case <-ctx.Done():
			return
		case event := <-events:
			if name := filepath.Base(event.Name); name == filepath.Base(w.path) || strings.HasPrefix(name, kubernetesData) {
				touch()
			}
		case <-lost:
			touch()
		case <-tick.C:
			if watcher != nil {
				_ = watcher.Add(filepath.Dir(w.path)) // the directory may be another one by now; if not, nothing changes
			}
			touch()
		case <-due:
			due = nil
			w.readAgain()
		}
	}
}

func (w *watchedFile) listen() (*fsnotify.Watcher, error) {
	if w.deaf {
		return nil, nil
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	if err := watcher.Add(filepath.Dir(w.path)); err != nil {
		return nil, errors.Join(err, watcher.Close())
	}
	return watcher, nil
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
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return data, nil
}
