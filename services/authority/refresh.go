package authority

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

// refreshEvery is how often the directory and the registrations are read, should an event be lost.
const refreshEvery = 2 * time.Second

// sweepEvery is how often redeemed tickets are looked through.
const sweepEvery = time.Hour

// keepFresh takes over what changes in the authority's directory and in the registrations until ctx ends: when the system
// tells of a change, and every few seconds. A failure is reported when it is a new one; what was read last stays in force.
func (a *Authority) keepFresh(ctx context.Context) {
	folders := a.watchFolders()
	defer folders.close()
	tick := time.NewTicker(refreshEvery)
	defer tick.Stop()
	var due <-chan time.Time // when to read; nil: nothing happened
	var swept time.Time
	issuers, registered, tickets := a.reporter("issuers"), a.reporter("registrations"), a.reporter("redeemed tickets")
	for {
		select {
		case <-ctx.Done():
			return
		case event := <-folders.events:
			if due == nil && concerns(event) {
				due = time.After(settle)
			}
			continue
		case <-folders.failures: // events were lost, perhaps one of ours
		case <-due:
		case now := <-tick.C:
			folders.add() // a folder may be there now that was not, or be another one
			if now.Sub(swept) > sweepEvery {
				swept = now
				tickets(a.tickets.sweep(now.Round(0)))
			}
		}
		due = nil
		issuers(a.refreshIssuers())
		err := a.reloadRegistrations()
		a.counts.registrationsStale.Store(err != nil)
		registered(err)
	}
}

// refreshIssuers reads the directory, makes what is due in it, and publishes what is new.
func (a *Authority) refreshIssuers() error {
	if err := a.issuers.Refresh(); err != nil {
		return err
	}
	// One that fails does not keep the others from being done. A new key of JWT-SVIDs takes its time: what has changed already,
	// a revocation above all, is told before.
	err := errors.Join(a.issuers.Retire(), a.issuers.KeepSequence(), a.publish())
	return errors.Join(err, a.issuers.RotateJWT(), a.issuers.KeepSequence(), a.publish())
}

// reporter returns a function that logs an error when it is not the one it logged last.
func (a *Authority) reporter(what string) func(error) {
	last := ""
	return func(err error) {
		switch {
		case err == nil && last != "":
			last = ""
			a.log.Info("can be read again", "what", what)
		case err != nil && err.Error() != last:
			last = err.Error()
			a.log.Error("could not be read; what was read last stays in force", "what", what, "error", err)
		}
	}
}

// folders are what is watched. Without a watcher (the system has a limited number) both channels are nil, and the
// interval alone is left.
type folders struct {
	paths    []string
	watcher  *fsnotify.Watcher
	events   chan fsnotify.Event
	failures chan error
}

func (a *Authority) watchFolders() *folders {
	f := &folders{paths: []string{a.config.Dir, filepath.Join(a.config.Dir, "issuers"), filepath.Join(a.config.Dir, "jwt")}}
	if a.config.Registrations != "" {
		f.paths = append(f.paths, filepath.Dir(a.config.Registrations))
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		a.log.Warn("changes of files are seen at an interval only", "interval", refreshEvery, "error", err)
		return f
	}
	f.watcher, f.events, f.failures = watcher, watcher.Events, watcher.Errors
	f.add()
	return f
}

// add watches the folders that are there.
func (f *folders) add() {
	if f.watcher == nil {
		return
	}
	for _, path := range f.paths {
		_ = f.watcher.Add(path) // it is not there yet, or no watch is left: the interval does
	}
}

func (f *folders) close() {
	if f.watcher != nil {
		_ = f.watcher.Close() // nothing was written through it
	}
}

// concerns reports whether an event can be about a file that is read. A temporary file is none, until it is renamed; the
// link that Kubernetes swaps is one.
func concerns(event fsnotify.Event) bool {
	name := filepath.Base(event.Name)
	return !strings.HasPrefix(name, ".") || strings.HasPrefix(name, "..data")
}
