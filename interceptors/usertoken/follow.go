package usertoken

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	tokensv1 "example.com/rolecall/gen/tokens/v1"
)

// Bounds of what comes on the stream.
const (
	maxName  = 256     // of a session or a user, in bytes
	maxBatch = 1 << 10 // revocations of a snapshot that are taken over at once
	maxInt53 = 1<<53 - 1
)

var (
	errSilent = errors.New("the stream of revocations was silent for too long")
	// errGap says that what the stream sent cannot be all there is, or comes in another order than it happened.
	errGap = errors.New("the stream of revocations has a gap in it")
)

// follower follows what the tokens service revokes.
type follower struct {
	client  tokensv1.TokensServiceClient
	revoked *revocations
	install func(*tokensv1.SignedKeys) error
	now     func() time.Time
	log     *slog.Logger
	pace    pace

	complete atomic.Bool   // a snapshot is in: what was not revoked is good
	tried    chan struct{} // closed when the first attempt has brought a snapshot, or has failed
	settle   sync.Once
	heard    atomic.Int64 // when a stream with a complete snapshot last said something, or the start: since began
	began    time.Time    // monotonic

	// Of the goroutine that runs:
	epoch    string // of the last complete snapshot; empty: a whole one is needed
	sequence int64  // of the last revocation that is in
	batch    []revocation
}

// age returns how long ago a stream with a complete snapshot was last heard, or since when none ever was.
func (f *follower) age() time.Duration { return time.Since(f.began) - time.Duration(f.heard.Load()) }

// settled waits until the first attempt to follow has ended in one way or the other: a call that comes in the moment in which
// its server starts is answered, and not sent away.
func (f *follower) settled(most time.Duration) {
	if f.complete.Load() {
		return
	}
	select {
	case <-f.tried:
	case <-time.After(most):
	}
}

// run follows until ctx ends.
func (f *follower) run(ctx context.Context) {
	wait, failing := f.pace.redial, false
	for ctx.Err() == nil {
		followed, err := f.follow(ctx)
		f.settle.Do(func() { close(f.tried) })
		if ctx.Err() != nil {
			return
		}
		switch {
		case followed && failing:
			failing = false
			f.log.Info("revocations of user tokens were heard of again")
		case !followed && !failing:
			failing = true
			f.log.Warn("revocations of user tokens cannot be followed; is the tokens service up, and does this workload hold tokens.verifier?", "error", err)
		}
		if mustBegin(err) {
			f.log.Warn("revocations of user tokens are read anew", "error", err)
		} else if followed {
			wait = f.pace.redial
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait/2 + rand.N(wait)):
		}
		wait = min(2*wait, f.pace.most)
	}
}

// follow opens the stream once and reads until it ends. It tells whether a snapshot was completed.
func (f *follower) follow(ctx context.Context) (followed bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(f.pace.silence, func() { cancel(errSilent) })
	defer silence.Stop()
	// What was revoked stays so, however the stream ends.
	defer func() {
		if err = errors.Join(err, f.flush()); mustBegin(err) {
			f.epoch, f.sequence = "", 0
		}
	}()
	stream, err := f.client.WatchRevocations(ctx, &tokensv1.WatchRevocationsRequest{Epoch: f.epoch, AfterSequence: f.sequence})
	if err != nil {
		return false, err
	}
	at := position{epoch: f.epoch, sequence: f.sequence, resumed: f.epoch != ""}
	for {
		message, err := stream.Recv()
		if err != nil {
			if cause := context.Cause(ctx); errors.Is(cause, errSilent) {
				err = cause
			}
			return at.complete, err
		}
		if err = f.take(&at, message); err != nil {
			return at.complete, err
		}
		switch {
		case at.complete:
			silence.Reset(f.pace.silence)
			f.heard.Store(int64(time.Since(f.began)))
		case message.GetSession() != nil || message.GetGeneration() != nil:
			silence.Reset(f.pace.silence) // a snapshot may take its time, as long as it goes on
		}
	}
}

// mustBegin tells whether only a whole snapshot helps after an error.
func mustBegin(err error) bool {
	return errors.Is(err, errGap) || errors.Is(err, errTooManyRevocations)
}

// position is how far a stream has come.
type position struct {
	epoch    string
	sequence int64 // the highest so far
	begun    bool
	resumed  bool // the stream goes on where an earlier one ended
	complete bool
}

// take takes one message over. Whatever order it comes in, a revocation holds.
func (f *follower) take(at *position, message *tokensv1.WatchRevocationsResponse) error {
	rev, revoked, err := f.read(message)
	if err != nil {
		return err
	}
	if revoked {
		f.batch = append(f.batch, rev)
	}
	if len(f.batch) >= maxBatch || at.complete || !revoked {
		if err := f.flush(); err != nil {
			return err
		}
	}
	if err := at.advance(message, revoked); err != nil {
		return err
	}
	if signed := message.GetKeys(); signed != nil {
		if err := f.install(signed); err != nil {
			f.log.Warn("the tokens service sent keys that are not taken over", "error", err)
		}
	}
	if message.GetSnapshotComplete() != nil {
		if err := f.flush(); err != nil {
			return err
		}
		at.complete = true
		f.complete.Store(true)
		f.settle.Do(func() { close(f.tried) })
	}
	if at.complete {
		f.epoch, f.sequence = at.epoch, at.sequence
	}
	return nil
}

// advance checks that the message is the one that follows on those before.
func (p *position) advance(message *tokensv1.WatchRevocationsResponse, revoked bool) error {
	epoch, sequence := message.GetEpoch(), message.GetSequence()
	switch {
	case epoch == "" || len(epoch) > maxName || sequence < 0:
		return fmt.Errorf("%w: a message without an epoch or a sequence number", errGap)
	case epoch != p.epoch && p.begun:
		return fmt.Errorf("%w: two epochs on one stream", errGap)
	case epoch != p.epoch:
		// The first stream, or what the service knew is not there any more, as after a database was restored: a whole snapshot
		// comes.
		p.epoch, p.sequence, p.resumed = epoch, 0, false
	}
	p.begun = true
	if !p.complete && !revoked && message.GetSnapshotComplete() == nil {
		return nil // keys and heartbeats between what was revoked before
	}
	next := p.sequence
	if revoked && p.complete {
		next++
	}
	if p.complete && sequence != next || p.resumed && sequence < p.sequence {
		return fmt.Errorf("%w: the sequence number %d follows on %d", errGap, sequence, p.sequence)
	}
	p.sequence = max(p.sequence, sequence)
	return nil
}

// read returns what a message revokes, if it does.
func (f *follower) read(message *tokensv1.WatchRevocationsResponse) (rev revocation, revoked bool, err error) {
	switch change := message.GetChange().(type) {
	case *tokensv1.WatchRevocationsResponse_Session:
		rev.session, rev.until = change.Session.GetSession(), change.Session.GetForgetAfter().AsTime()
	case *tokensv1.WatchRevocationsResponse_Generation:
		rev.user, rev.until = change.Generation.GetUsername(), change.Generation.GetForgetAfter().AsTime()
		rev.generation = uint64(change.Generation.GetGeneration())
		if rev.generation > maxInt53 {
			rev.generation = maxInt53 + 1 // no token has one that is as high: all of the user's are revoked
		}
	default:
		return rev, false, nil
	}
	if name := rev.session + rev.user; name == "" || len(name) > maxName {
		return rev, false, fmt.Errorf("%w: a revocation of nobody, or with a name of more than %d bytes", errGap, maxName)
	}
	return rev, true, nil
}

// flush puts what was revoked in force.
func (f *follower) flush() error {
	if len(f.batch) == 0 {
		return nil
	}
	err := f.revoked.add(f.batch, f.now())
	if err != nil {
		f.complete.Store(false) // fail closed: not everything that was revoked is known
	}
	f.batch = nil
	return err
}
