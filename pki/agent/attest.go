package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
)

// errNoIdentity reports a process that is no workload that the agent knows.
var errNoIdentity = errors.New("the process is not registered and no entry fits it")

// attest finds out which workloads a peer is, the nearest registration first, then entries in their order; each SPIFFE ID
// once. The process is looked at before and after: what was found out holds for the one that connected, not for another
// that has its pid by now. follow, if not nil, is told of the processes that a registration could be for, before it is
// looked for one.
func (s *Server) attest(ctx context.Context, p peer, follow func([]process)) ([]names, error) {
	s.subjects.attesting.Add(1)
	if err := p.alive(); err != nil {
		return nil, err
	}
	var found []names
	if int(p.uid) == os.Geteuid() { // another user's process is never a descendant of ours, whatever its parent is
		line, err := p.lineage()
		if err != nil {
			return nil, err
		}
		if follow != nil {
			follow(line)
		}
		found = s.registry.of(line)
	}
	at := look{peer: p, sums: s.sums}
	set := s.entries.Load()
	failed := map[int]error{}
	for n, entry := range set.entries {
		fits, err := entry.fits(ctx, &at)
		if err != nil {
			failed[n] = err
		}
		if fits {
			found = append(found, names{id: entry.ID, dns: entry.DNSNames, ips: entry.IPAddresses, entry: true})
		}
	}
	if err := p.alive(); err != nil {
		return nil, err
	}
	if ctx.Err() == nil {
		s.unevaluable(p, set, failed)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("pid %d, uid %d: %w", p.pid, p.uid, errNoIdentity)
	}
	return unique(found), nil
}

// entrySet is the entries that are in force.
type entrySet struct {
	entries []Entry
	warned  []atomic.Bool // of each entry: that a selector could not be evaluated
}

func newEntrySet(entries []Entry) *entrySet {
	return &entrySet{entries, make([]atomic.Bool, len(entries))}
}

// unevaluable logs which entries could not be evaluated for a process that lives, once for each entry as a warning: an agent
// that may not look at other users' processes never finds out what they run.
func (s *Server) unevaluable(p peer, set *entrySet, failed map[int]error) {
	for n, err := range failed {
		level := slog.LevelWarn
		if set.warned[n].Swap(true) {
			level = slog.LevelDebug
		}
		s.log.Log(context.Background(), level, "an entry fits no process whose selectors cannot be evaluated",
			"id", set.entries[n].ID, "entry", n+1, "pid", p.pid, "uid", p.uid, "error", err)
	}
}

// SetEntries replaces the entries; whoever has a stream open is attested anew. The entries are the Server's from then on.
func (s *Server) SetEntries(entries []Entry) {
	s.entries.Store(newEntrySet(entries))
	s.subjects.wakeKinds(svidStream, bundleStream, jwtStream, call)
}

func (e Entry) fits(ctx context.Context, at *look) (bool, error) {
	if len(e.Selectors) == 0 {
		return false, nil
	}
	for _, selector := range e.Selectors {
		if ok, err := selector.fits(ctx, at); !ok || err != nil {
			return false, err
		}
	}
	return true, nil
}

// unique keeps the first of each SPIFFE ID.
func unique(all []names) []names {
	seen := map[string]bool{}
	kept := all[:0]
	for _, n := range all {
		if id := n.id.String(); !seen[id] {
			seen[id] = true
			kept = append(kept, n)
		}
	}
	return kept
}
