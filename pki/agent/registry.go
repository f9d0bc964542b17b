package agent

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// lingerTime is how long an identity that entries give outlives its last stream. A program that fetches its certificate
// anew at every run, as one in a loop of a shell does, has it signed once a minute at most and not each time. What a
// registration gives ends with it.
const lingerTime = time.Minute

// maxRegistrations bounds the processes that may be registered at one time.
const maxRegistrations = 1024

// registry knows which processes are which workloads, and keeps one identity alive for each set of names that somebody
// may have. Safe for concurrent use.
type registry struct {
	make    func(names) *identity
	changed func(process) // told that a process was registered, or no longer is
	linger  time.Duration // 0 once stopped

	mu         sync.Mutex
	seq        uint64
	processes  map[process][]*registration
	count      int
	identities map[string]*heldIdentity
	revoked    map[[32]byte]struct{} // issuers, by the SHA-256 of their keys
	running    sync.WaitGroup
}

// registration is one process that was declared to be a workload.
type registration struct {
	seq      uint64
	process  process
	handle   handle
	identity *identity
}

type heldIdentity struct {
	*identity
	holders int
	stop    context.CancelFunc
	end     *time.Timer // of an identity that lingers; nil of one that is held
}

func newRegistry(makeIdentity func(names) *identity, changed func(process)) *registry {
	return &registry{make: makeIdentity, changed: changed, linger: lingerTime, processes: map[process][]*registration{},
		identities: map[string]*heldIdentity{}}
}

// hold returns the identity for the names and keeps it alive until release is called with it.
func (r *registry) hold(n names) *identity {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.holdLocked(n)
}

func (r *registry) holdLocked(n names) *identity {
	key := n.key()
	held, ok := r.identities[key]
	if !ok {
		ctx, stop := context.WithCancel(context.Background())
		held = &heldIdentity{identity: r.make(n), stop: stop}
		held.renewal.SetRevoked(r.revoked)
		r.identities[key] = held
		r.running.Go(func() { held.run(ctx) })
	}
	if held.end != nil {
		held.end.Stop()
		held.end = nil
	}
	held.holders++
	return held.identity
}

func (r *registry) release(i *identity) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.releaseLocked(i)
}

func (r *registry) releaseLocked(i *identity) {
	held := r.identities[i.key()]
	if held.holders--; held.holders > 0 {
		return
	}
	if !i.entry || r.linger == 0 {
		r.dropLocked(held)
		return
	}
	var end *time.Timer
	end = time.AfterFunc(r.linger, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if held.end == end { // nobody holds it again, or has let it go once more
			r.dropLocked(held)
		}
	})
	held.end = end
}

func (r *registry) dropLocked(held *heldIdentity) {
	held.stop()
	delete(r.identities, held.key())
}

// register declares the process to be the workload, until remove. It must be alive.
func (r *registry) register(p process, n names) (*registration, error) {
	reg, err := r.add(p, n)
	if err == nil {
		r.changed(p)
	}
	return reg, err
}

func (r *registry) add(p process, n names) (*registration, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.count >= maxRegistrations {
		return nil, fmt.Errorf("%d processes are registered, which is the most", r.count)
	}
	held, err := openHandle(p)
	if err != nil {
		return nil, err
	}
	r.seq++
	reg := &registration{seq: r.seq, process: p, handle: held, identity: r.holdLocked(n)}
	r.processes[p] = append(r.processes[p], reg)
	r.count++
	return reg, nil
}

// remove ends a registration.
func (r *registry) remove(reg *registration) {
	r.take(reg)
	r.changed(reg.process)
}

func (r *registry) take(reg *registration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	left := slices.DeleteFunc(r.processes[reg.process], func(other *registration) bool { return other == reg })
	if r.processes[reg.process] = left; len(left) == 0 {
		delete(r.processes, reg.process)
	}
	r.count--
	reg.handle.close()
	r.releaseLocked(reg.identity)
}

// of returns the names that processes of a line are registered for, the nearest process first.
func (r *registry) of(line []process) []names {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []names
	for _, p := range line {
		for _, reg := range r.processes[p] {
			if !reg.handle.ended() {
				found = append(found, reg.identity.names)
			}
		}
	}
	return found
}

// list returns all registrations in the order in which they were made.
func (r *registry) list() []*registration {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []*registration
	for _, regs := range r.processes {
		all = append(all, regs...)
	}
	slices.SortFunc(all, func(a, b *registration) int { return int(a.seq) - int(b.seq) })
	return all
}

// setRevoked has every identity renewed whose certificate is under one of these issuers.
func (r *registry) setRevoked(keys map[[32]byte]struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.revoked = keys
	for _, held := range r.identities {
		held.renewal.SetRevoked(keys)
	}
}

// stop ends every renewal and waits for them. Nothing may be held or registered afterwards.
func (r *registry) stop() {
	r.mu.Lock()
	r.linger = 0
	for _, held := range r.identities {
		if held.end != nil {
			held.end.Stop()
		}
		held.stop()
	}
	r.mu.Unlock()
	r.running.Wait()
}
