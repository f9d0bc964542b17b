package authority

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/protobuf/proto"

	authorityv1 "example.com/rolecall/gen/authority/v1"
)

// Bounds of what agents can make the authority remember.
const (
	maxReporters    = 1000
	maxHandedOut    = 10_000   // of one report
	maxReportsBytes = 64 << 20 // of all together, as they go over the wire
)

// reports holds the latest report of each agent, in memory alone: after a restart an agent that has not reported again is
// missing, and a root that it may not know is not retired. The zero value is empty. Safe for concurrent use.
type reports struct {
	mu     sync.Mutex
	latest map[spiffeid.ID]report
	bytes  int
}

type report struct {
	received time.Time
	size     int
	content  *authorityv1.ReportTrustRequest
}

// put takes a report over, in place of the agent's last one. Reports older than keep make room: what an agent had handed
// out by then has expired, and if it has not, the report is missing, which is never taken for consent.
func (r *reports) put(agent spiffeid.ID, content *authorityv1.ReportTrustRequest, now time.Time, keep time.Duration) error {
	fresh := report{received: now, size: proto.Size(content), content: content}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.latest == nil {
		r.latest = map[spiffeid.ID]report{}
	}
	old, known := r.latest[agent]
	if !r.fits(known, old.size, fresh.size) {
		for id, stale := range r.latest {
			if id != agent && now.Sub(stale.received) > keep {
				r.bytes -= stale.size
				delete(r.latest, id)
			}
		}
	}
	if !r.fits(known, old.size, fresh.size) {
		return fmt.Errorf("%d agents have reported %d bytes: %d agents and %d bytes at most are kept", len(r.latest), r.bytes, maxReporters, maxReportsBytes)
	}
	r.bytes += fresh.size - old.size
	r.latest[agent] = fresh
	return nil
}

func (r *reports) fits(known bool, old, fresh int) bool {
	return (known || len(r.latest) < maxReporters) && r.bytes-old+fresh <= maxReportsBytes
}

// all returns the latest report of each agent, by ID.
func (r *reports) all() (agents []spiffeid.ID, latest map[spiffeid.ID]report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	latest = maps.Clone(r.latest)
	agents = slices.SortedFunc(maps.Keys(latest), func(a, b spiffeid.ID) int { return cmp.Compare(a.String(), b.String()) })
	return agents, latest
}
