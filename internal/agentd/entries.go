package agentd

import (
	"context"
	"errors"
	"io/fs"

	"example.com/rolecall/pki/agent"
)

// entriesFile is entries.yaml and what it says now.
type entriesFile struct {
	file  *watchedFile // nil: the agent has no such file
	first []agent.Entry
	set   func([]agent.Entry) // nil until tell
}

func newEntriesFile(cfg Config) *entriesFile {
	e := &entriesFile{}
	if cfg.Entries == "" {
		return e
	}
	e.file = &watchedFile{path: cfg.Entries, what: "entries", limit: agent.MaxEntriesFile, interval: fileInterval, log: cfg.Log,
		use: func(data []byte) error {
			entries, err := agent.ParseEntries(data, cfg.TrustDomain)
			if err != nil {
				return err
			}
			if e.set == nil {
				e.first = entries
				return nil
			}
			e.set(entries)
			return nil
		}}
	return e
}

// load reads the file for the first time. That it is not there is no error: it may come later.
func (e *entriesFile) load() ([]agent.Entry, error) {
	if e.file == nil {
		return nil, nil
	}
	err := e.file.read()
	if errors.Is(err, fs.ErrNotExist) {
		e.file.reported = err.Error()
		return nil, nil
	}
	return e.first, err
}

// tell names who is told of new entries.
func (e *entriesFile) tell(set func([]agent.Entry)) { e.set = set }

// watch tells of new entries until ctx ends.
func (e *entriesFile) watch(ctx context.Context) {
	if e.file != nil {
		e.file.watch(ctx)
	}
}
