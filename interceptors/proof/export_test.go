package proof

import (
	"fmt"
	"time"

	"example.com/rolecall/interceptors/internal/feature"
)

// NewFast is New in a hurry.
func NewFast(cfg Config) *Feature {
	f := New(cfg)
	f.pace = production
	f.pace.tick, f.pace.redial, f.pace.most = 10*time.Millisecond, 10*time.Millisecond, 100*time.Millisecond
	f.pace.again = 20 * time.Millisecond
	f.pace.backoff, f.pace.longest = 5*time.Millisecond, 50*time.Millisecond
	f.pace.patience, f.pace.lock = 2*time.Second, 50*time.Millisecond
	f.pace.fetch = time.Minute // no test waits until a fetch takes too long
	return f
}

// NewPatient is NewFast whose client goes on for longer than any call does.
func NewPatient(cfg Config) *Feature {
	f := NewFast(cfg)
	f.pace.patience = time.Minute
	return f
}

// NewChecking is NewFast that asks often whether the key server knows the own key.
func NewChecking(cfg Config) *Feature {
	f := NewFast(cfg)
	f.pace.check = 20 * time.Millisecond
	return f
}

// Known returns how many keys of signers a feature remembers.
func (f *Feature) Known() int { return f.running.Load().ring.len() }

// Fetches returns how often a feature has asked the key server for a key.
func (f *Feature) Fetches() int64 { return f.running.Load().ring.fetches.Load() }

// Running returns the feature at work.
func (f *Feature) Running() feature.Proofs { return f.running.Load() }

// Acknowledged returns the name of the key that the key server has acknowledged last.
func (f *Feature) Acknowledged() string {
	if c := f.running.Load().own.acked.Load(); c != nil {
		return c.signer.KeyID()
	}
	return ""
}

// MemoryWindow makes a window in memory.
func MemoryWindow(perSigner, total int) Window { return newMemoryWindow(perSigner, total) }

// Live returns how many nonces a window in memory remembers.
func Live(w Window) int64 { return w.(*memoryWindow).live.Load() }

// Covered is what proofs say of metadata.
var (
	Covered = covered
	Digest  = digest
)

// Mark is a mark of accepted proofs.
type Mark struct{ m *mark }

// OpenMark opens one.
func OpenMark(path string, start int64) (Mark, error) { return OpenMarkWithin(path, start, 0) }

// OpenMarkWithin opens one that another process may have for a while.
func OpenMarkWithin(path string, start int64, wait time.Duration) (Mark, error) {
	m, err := openMark(path, start, wait)
	return Mark{m}, err
}

// WithoutHurry has a window in a database wait for it for longer than any call does.
func WithoutHurry(w Window) Window {
	w.(*sqlWindow).timeout = time.Minute
	return w
}

// Patience is for how long a client bears PROOF_EXPIRED.
func Patience(f *Feature) time.Duration { return (&client{proofs: f.running.Load()}).patience() }

// Window makes a window in memory that knows what was accepted before.
func (m Mark) Window() Window {
	w := newMemoryWindow(DefaultPerSigner, leastTotal)
	w.open(m.m, m.Through())
	return w
}

func (m Mark) Cover(issued int64) error { return m.m.cover(issued) }
func (m Mark) Close() error             { return m.m.close() }
func (m Mark) Through() int64           { return m.m.through.Load() }

// ReadMark and MarkText read and write a mark's file.
var ReadMark = readMark

func MarkText(through int64) string { return fmt.Sprintf("%s %d\n", markHead, through) }

// MaxWaiting is how many calls of one peer wait for one question about one signer.
const MaxWaiting = maxWaiting

// Waiting returns how many calls wait for answers of the key server.
func (f *Feature) Waiting() (n int) {
	r := f.running.Load().ring
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.askers {
		for _, waiting := range a.waiting {
			n += waiting
		}
	}
	return n
}

// Turns returns for how many signers the key server is being asked, or was just now, and on behalf of how many peers.
func (f *Feature) Turns() int {
	r := f.running.Load().ring
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.turns) + len(r.askers)
}
