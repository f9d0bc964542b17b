package agent

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/proto"
)

// kind is what a stream carries, and so what it has to be told.
type kind int

const (
	svidStream   kind = iota // certificates, keys and bundles
	bundleStream             // roots alone
	jwtStream                // keys of JWT-SVIDs
	call                     // no stream: one answer
)

// subjects are the processes that have streams open. A change is told to those whom it concerns alone: ten thousand
// streams sleep while the certificate of one of them is renewed. All streams of one process share its attestation. Safe
// for concurrent use.
type subjects struct {
	mu        sync.Mutex
	all       map[peer]*subject
	lines     map[process]map[*subject]struct{} // by every process that a registration could be for
	holders   map[*identity]map[*subject]struct{}
	wakes     atomic.Uint64 // streams that were told of something, ever
	attesting atomic.Uint64 // attestations, ever
}

func newSubjects() *subjects {
	return &subjects{all: map[peer]*subject{}, lines: map[process]map[*subject]struct{}{}, holders: map[*identity]map[*subject]struct{}{}}
}

// subject is one process with streams. An event concerns all of it: what was found out before it is found out again.
type subject struct {
	peer   peer
	events atomic.Uint64

	// Guarded by subjects.mu.
	streams      map[*stream]struct{}
	certificates int // streams that carry them
	line         []process

	turn       chan struct{} // guards what follows; a channel, so that who waits can give up
	attested   uint64        // events before the attestation began
	names      []names
	err        error
	held       holdings
	heldAt     uint64 // the attestation that the identities are held for; 0: none are
	identities []*identity

	building sync.Mutex
	messages [call]built
}

// built is the last message of one kind, and what it was built from.
type built struct {
	svids   []*svid
	trust   *trust
	message proto.Message
}

// stream is one open stream of a subject.
type stream struct {
	*subject
	kind kind
	wake chan struct{} // holds one: however much has happened, there is one thing to do
}

// open adds a stream. What it is told is found out anew, whatever other streams of the process know.
func (s *subjects) open(p peer, k kind, r *registry) *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	of := s.all[p]
	if of == nil {
		of = &subject{peer: p, streams: map[*stream]struct{}{}, turn: make(chan struct{}, 1),
			held: holdings{registry: r, held: map[string]*identity{}}}
		s.all[p] = of
	}
	st := &stream{of, k, make(chan struct{}, 1)}
	of.streams[st] = struct{}{}
	if k == svidStream {
		of.certificates++
	}
	of.events.Add(1)
	return st
}

// close removes a stream, and lets go of the identities of its process with the last one that carried them.
func (s *subjects) close(st *stream) {
	s.mu.Lock()
	delete(st.streams, st)
	if len(st.streams) == 0 {
		delete(s.all, st.peer)
		s.followLocked(st.subject, nil)
	}
	if st.kind == svidStream {
		st.certificates--
	}
	last := st.kind == svidStream && st.certificates == 0
	s.mu.Unlock()
	if !last {
		return
	}
	st.turn <- struct{}{}
	defer st.give()
	if !s.carriesCertificates(st.subject) {
		s.hold(st.subject, nil)
		st.heldAt, st.identities = 0, nil
		st.building.Lock()
		st.messages[svidStream] = built{} // it holds keys
		st.building.Unlock()
	}
}

func (s *subjects) carriesCertificates(of *subject) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return of.certificates > 0
}

// follow has the subject told of registrations of any process of its line.
func (s *subjects) follow(of *subject, line []process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(of.streams) > 0 && !slices.Equal(of.line, line) {
		s.followLocked(of, line)
	}
}

func (s *subjects) followLocked(of *subject, line []process) {
	for _, p := range of.line {
		unlink(s.lines, p, of)
	}
	of.line = line
	for _, p := range line {
		link(s.lines, p, of)
	}
}

// hold keeps the identities of exactly these names alive for the subject, has it told of their certificates, and returns
// them in order. The caller has the turn.
func (s *subjects) hold(of *subject, wanted []names) []*identity {
	before := of.held.list()
	list := of.held.replace(wanted)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range before {
		unlink(s.holders, i, of)
	}
	for _, i := range list {
		link(s.holders, i, of)
	}
	return list
}

func link[K comparable](index map[K]map[*subject]struct{}, key K, of *subject) {
	if index[key] == nil {
		index[key] = map[*subject]struct{}{}
	}
	index[key][of] = struct{}{}
}

func unlink[K comparable](index map[K]map[*subject]struct{}, key K, of *subject) {
	delete(index[key], of)
	if len(index[key]) == 0 {
		delete(index, key)
	}
}

// wakeProcess tells whoever descends from a process that it was registered, or no longer is.
func (s *subjects) wakeProcess(p process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for of := range s.lines[p] {
		s.wakeLocked(of, svidStream, bundleStream, jwtStream, call)
	}
}

// wakeIdentity tells whoever holds an identity that it has another certificate.
func (s *subjects) wakeIdentity(i *identity) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for of := range s.holders[i] {
		s.wakeLocked(of, svidStream)
	}
}

// wakeKinds tells all streams of these kinds.
func (s *subjects) wakeKinds(which ...kind) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, of := range s.all {
		s.wakeLocked(of, which...)
	}
}

func (s *subjects) wakeLocked(of *subject, which ...kind) {
	of.events.Add(1)
	for st := range of.streams {
		if slices.Contains(which, st.kind) {
			select {
			case st.wake <- struct{}{}:
				s.wakes.Add(1)
			default:
			}
		}
	}
}

// take waits for the subject's turn.
func (of *subject) take(ctx context.Context) error {
	select {
	case of.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (of *subject) give() { <-of.turn }
