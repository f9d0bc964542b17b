package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// errNoIdentity reports a process that is no workload that the agent knows.
var errNoIdentity = errors.New("the process is not registered and no entry fits it")

// attest finds out which workloads a peer is, the nearest registration first, then entries in their order; each SPIFFE ID
// once. The process is looked at before and after: what was found out holds for the one that connected, not for another
// that has its pid by now.
func (s *Server) attest(ctx context.Context, p peer) ([]names, error) {
	if err := p.alive(); err != nil {
		return nil, err
	}
	var found []names
	if int(p.uid) == os.Geteuid() { // another user's process is never a descendant of ours, whatever its parent is
		line, err := p.lineage()
		if err != nil {
			return nil, err
		}
		found = s.registry.of(line)
	}
	for _, entry := range s.config.Entries {
		fits, err := entry.fits(ctx, p, s.sums)
		if err != nil {
			s.log.Debug("selector could not be evaluated", "id", entry.ID, "pid", p.pid, "error", err)
		}
		if fits {
			found = append(found, names{id: entry.ID, dns: entry.DNSNames, ips: entry.IPAddresses, entry: true})
		}
	}
	if err := p.alive(); err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("pid %d, uid %d: %w", p.pid, p.uid, errNoIdentity)
	}
	return unique(found), nil
}

func (e Entry) fits(ctx context.Context, p peer, sums *checksums) (bool, error) {
	if len(e.Selectors) == 0 {
		return false, nil
	}
	for _, selector := range e.Selectors {
		if ok, err := selector.fits(ctx, p, sums); !ok || err != nil {
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
