package proof

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

const (
	mostPerSigner = 25_000_000
	// leastTotal is how many nonces a window holds of all signers at least, and four times what it holds of one.
	leastTotal = 1_000_000
)

// newMemoryWindow makes a window that holds nonces until they expire: exactly, in about 30 bytes each. One signer has perSigner
// of them at a time at most, all together total, which is not less. Half of the total is kept back for signers that have few:
// each of the first thousand has a two-thousandth of it to itself, however many nonces others use up.
func newMemoryWindow(perSigner, total int) *memoryWindow {
	w := &memoryWindow{perSigner: perSigner, total: total, signers: map[string]*burned{}}
	w.reserve = max(1, total/2000)
	w.slots = total / 2 / w.reserve
	w.common = int64(total - w.slots*w.reserve)
	w.after.Store(math.MinInt64)
	return w
}

// bucketWidth is by how much nonces may be remembered longer than they need to, in seconds: they are forgotten by the bucket.
const bucketWidth = 8

// memoryWindow keeps, for each signer, sets of nonces that expire within the same few seconds.
type memoryWindow struct {
	perSigner, total int
	reserve, slots   int   // what the first signers have to themselves, and how many these are
	common           int64 // for who needs more

	mark   atomic.Pointer[mark] // nil: there is none
	after  atomic.Int64         // what was issued then or before may have been used before this window was made
	floor  atomic.Int64         // what expires then or before may have been forgotten
	shared atomic.Int64         // how much of what is common is used
	live   atomic.Int64
	swept  atomic.Int64 // when, in buckets

	mu      sync.RWMutex
	signers map[string]*burned
	slotted int // of the signers
}

// burned are the nonces of one signer.
type burned struct {
	mu      sync.Mutex
	gone    bool // no longer in the table
	reserve int
	count   int
	buckets []bucket // by their ends
}

type bucket struct {
	end    int64 // in seconds since 1970; divisible by bucketWidth
	nonces map[[16]byte]struct{}
}

// open says what may have been used before the window was made.
func (w *memoryWindow) open(m *mark, after int64) {
	w.mark.Store(m)
	raise(&w.after, after)
}

// Burn implements Window.
func (w *memoryWindow) Burn(_ context.Context, n Nonce) error {
	value, err := nonceBytes(n.Value)
	if err != nil {
		return err
	}
	issued := n.Issued.Unix()
	if issued <= w.after.Load() {
		return ErrExpired
	}
	// Before it is accepted, and with no lock held: this may wait for the disk.
	if m := w.mark.Load(); m != nil {
		if err := m.cover(issued); err != nil {
			return err
		}
	}
	return w.insert(n, value)
}

func (w *memoryWindow) insert(n Nonce, value [16]byte) error {
	now := n.Now.Unix()
	w.sweep(now)
	for {
		s := w.signer(n.Signer)
		s.mu.Lock()
		if s.gone {
			s.mu.Unlock()
			continue
		}
		err := w.insertLocked(s, now, n.Expires, value)
		s.mu.Unlock()
		return err
	}
}

func (w *memoryWindow) insertLocked(s *burned, now int64, expires time.Time, value [16]byte) error {
	w.forget(s, now)
	ends := expires.Unix()
	if expires.Nanosecond() > 0 {
		ends++
	}
	// Asked with the lock held, and after forget: what forget took away is at or below the floor.
	if ends <= w.floor.Load() {
		return ErrExpired
	}
	end := (ends + bucketWidth - 1) / bucketWidth * bucketWidth
	var into *bucket
	for i := range s.buckets {
		if _, used := s.buckets[i].nonces[value]; used {
			return ErrReplayed
		}
		if s.buckets[i].end == end {
			into = &s.buckets[i]
		}
	}
	if s.count >= w.perSigner {
		return ErrFull
	}
	if s.count >= s.reserve && w.shared.Add(1) > w.common {
		w.shared.Add(-1)
		return ErrFull
	}
	if into == nil {
		s.buckets = append(s.buckets, bucket{end, map[[16]byte]struct{}{}})
		into = &s.buckets[len(s.buckets)-1]
	}
	into.nonces[value] = struct{}{}
	s.count++
	w.live.Add(1)
	return nil
}

// signer returns the nonces of a signer.
func (w *memoryWindow) signer(id string) *burned {
	w.mu.RLock()
	s := w.signers[id]
	w.mu.RUnlock()
	if s != nil {
		return s
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if s = w.signers[id]; s == nil {
		s = &burned{}
		if w.slotted < w.slots {
			s.reserve = w.reserve
			w.slotted++
		}
		w.signers[id] = s
	}
	return s
}

// forget drops the buckets of a signer that have ended.
func (w *memoryWindow) forget(s *burned, now int64) {
	before := s.count
	for i := 0; i < len(s.buckets); {
		b := s.buckets[i]
		if now < b.end {
			i++
			continue
		}
		raise(&w.floor, b.end)
		s.count -= len(b.nonces)
		last := len(s.buckets) - 1
		s.buckets[i], s.buckets[last] = s.buckets[last], bucket{}
		s.buckets = s.buckets[:last]
	}
	if before != s.count {
		w.live.Add(int64(s.count - before))
		w.shared.Add(int64(max(0, s.count-s.reserve) - max(0, before-s.reserve)))
	}
}

// sweep drops what has ended of all signers, once for each bucket's width.
func (w *memoryWindow) sweep(now int64) {
	last, turn := w.swept.Load(), now/bucketWidth
	if last == turn || !w.swept.CompareAndSwap(last, turn) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, s := range w.signers {
		s.mu.Lock()
		w.forget(s, now)
		if s.count == 0 {
			s.gone = true
			delete(w.signers, id)
			if s.reserve > 0 {
				w.slotted--
			}
		}
		s.mu.Unlock()
	}
}

// raise makes a number at least n.
func raise(number *atomic.Int64, n int64) {
	for {
		old := number.Load()
		if old >= n || number.CompareAndSwap(old, n) {
			return
		}
	}
}
