package agent

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// MaxHandedOut is how many records HandedOut returns at most, and how many ended streams are remembered.
const MaxHandedOut = 10_000

// HandedOut says that the streams of an identity were last sent the bundle with this digest (pki.BundleDigest).
type HandedOut struct {
	ID     spiffeid.ID
	Digest [32]byte
	// Streams are open ones, of certificates or of bundles. 0: all have ended, and a certificate that one of them was sent
	// has not.
	Streams int
}

// handouts remembers which bundle went to whom: the Workload API has no acknowledgement, and a root may go only when
// everybody who could go by the old bundle has been sent the new one. Safe for concurrent use.
type handouts struct {
	now     func() time.Time
	changed chan struct{} // holds one

	mu    sync.Mutex
	open  map[handedKey]int
	ended map[handedKey]time.Time // when the last certificate ends
}

type handedKey struct {
	id     spiffeid.ID
	digest [32]byte
}

func newHandouts(now func() time.Time) *handouts {
	return &handouts{now: now, changed: make(chan struct{}, 1), open: map[handedKey]int{}, ended: map[handedKey]time.Time{}}
}

// HandedOut returns one record for each identity and bundle, those of another bundle than the present one first, 10,000
// at most.
func (s *Server) HandedOut() []HandedOut { return s.handed.list(s.trust.Load().digest) }

// Changed delivers a value after what HandedOut returns has changed in more than the numbers of streams. It is for one
// receiver; several changes may be one value.
func (s *Server) Changed() <-chan struct{} { return s.handed.changed }

func (h *handouts) list(present [32]byte) []HandedOut {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.forgetExpired()
	list := make([]HandedOut, 0, len(h.open)+len(h.ended))
	for key, n := range h.open {
		list = append(list, HandedOut{key.id, key.digest, n})
	}
	for key := range h.ended {
		if h.open[key] == 0 {
			list = append(list, HandedOut{key.id, key.digest, 0})
		}
	}
	stale := func(o HandedOut) int {
		if o.Digest == present {
			return 1
		}
		return 0
	}
	slices.SortFunc(list, func(a, b HandedOut) int {
		return cmp.Or(stale(a)-stale(b), cmp.Compare(a.ID.String(), b.ID.String()), bytes.Compare(a.Digest[:], b.Digest[:]))
	})
	return list[:min(len(list), MaxHandedOut)]
}

func (h *handouts) forgetExpired() {
	now := h.now()
	maps.DeleteFunc(h.ended, func(_ handedKey, ends time.Time) bool { return !now.Before(ends) })
}

// touch has it reported that something changed.
func (h *handouts) touch() {
	select {
	case h.changed <- struct{}{}:
	default:
	}
}

// handout is what one stream was last sent. It belongs to the stream's goroutine.
type handout struct {
	home *handouts
	last map[handedKey]time.Time // when the certificate ends; zero: only the bundle was sent
}

// stream begins the record of a stream that was sent nothing yet.
func (h *handouts) stream() *handout { return &handout{home: h} }

// sent records a message: it takes the place of the one before.
func (o *handout) sent(k kind, all []names, svids []*svid, digest [32]byte) {
	next := map[handedKey]time.Time{}
	switch k {
	case svidStream:
		for _, s := range svids {
			next[handedKey{s.id, digest}] = s.notAfter
		}
	case bundleStream:
		for _, n := range all {
			next[handedKey{n.id, digest}] = time.Time{}
		}
	default:
		return
	}
	o.replace(next)
}

// end records the end of the stream.
func (o *handout) end() { o.replace(nil) }

func (o *handout) replace(next map[handedKey]time.Time) {
	h := o.home
	h.mu.Lock()
	defer h.mu.Unlock()
	changed := false
	follows := map[spiffeid.ID]bool{}
	for key := range next {
		follows[key.id] = true
		changed = changed || !h.knows(key)
		h.open[key]++
	}
	for key, ends := range o.last {
		if h.open[key]--; h.open[key] == 0 {
			delete(h.open, key)
		}
		if !follows[key.id] && h.now().Before(ends) {
			h.end(key, ends)
		}
		changed = changed || !h.knows(key)
	}
	o.last = next
	if changed {
		h.touch()
	}
}

func (h *handouts) knows(key handedKey) bool { return h.open[key] > 0 || !h.ended[key].IsZero() }

// end remembers that a certificate is out there whose stream has ended. If there are too many, those that end first are
// forgotten.
func (h *handouts) end(key handedKey, ends time.Time) {
	if before, ok := h.ended[key]; ok || len(h.ended) < MaxHandedOut {
		h.ended[key] = maxTime(before, ends)
		return
	}
	h.forgetExpired()
	if len(h.ended) >= MaxHandedOut {
		first := key
		for other, at := range h.ended {
			if at.Before(ends) && (first == key || at.Before(h.ended[first])) {
				first = other
			}
		}
		if first == key {
			return
		}
		delete(h.ended, first)
	}
	h.ended[key] = ends
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
