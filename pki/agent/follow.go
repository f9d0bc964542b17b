package agent

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// unattestedWait is how long a process of our own user may be unknown when it calls: the supervisor starts a process
// first, and registers it a moment later.
const unattestedWait = time.Second

// follow sends a message to one stream now, and again whenever it would say something else: a new certificate, another
// bundle, a registration more or less. Before each message the peer is attested anew.
func follow[M proto.Message](ctx context.Context, s *Server, needsSVID bool, build func([]*svid) M, send func(M) error) error {
	p, ok := peerFrom(ctx)
	if !ok {
		return status.Error(codes.PermissionDenied, "the kernel did not say who calls")
	}
	if err := s.streams.admit(p.process); err != nil {
		return status.Error(codes.ResourceExhausted, err.Error())
	}
	defer s.streams.release(p.process)
	held := holdings{registry: s.registry, held: map[string]*identity{}}
	defer held.replace(nil)

	var last proto.Message
	patience := time.NewTimer(unattestedWait)
	defer patience.Stop()
	for {
		changed := s.registry.next() // taken before anything is read, so that no change is missed
		entitled, err := s.attest(ctx, p)
		if errors.Is(err, errNoIdentity) && last == nil && int(p.uid) == os.Geteuid() {
			select {
			case <-changed:
				continue
			case <-patience.C:
			case <-ctx.Done():
				return status.FromContextError(ctx.Err()).Err()
			}
		}
		if err != nil {
			s.log.Info("no identity for a process", "pid", p.pid, "uid", p.uid, "reason", err)
			return status.Error(codes.PermissionDenied, "no identity issued")
		}
		identities := held.replace(entitled)
		if err := s.waitTried(ctx, identities); err != nil {
			return err
		}
		svids, reason := ready(identities, time.Now())
		switch {
		case len(svids) == 0 && needsSVID && last == nil:
			return status.Errorf(codes.Unavailable, "no certificate can be issued now: %v", reason)
		case len(svids) == 0 && needsSVID:
			// All expired while the stream was open: nothing to say until the next one is there.
		default:
			message := build(svids)
			if last != nil && proto.Equal(last, message) {
				break
			}
			if err := p.alive(); err != nil {
				return status.Error(codes.PermissionDenied, "no identity issued")
			}
			if err := send(message); err != nil {
				return err
			}
			last = message
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case <-s.stopping:
			return errStopping
		}
	}
}

var errStopping = status.Error(codes.Unavailable, "the agent stops")

// waitTried waits until each identity has a certificate or a reason why it has none.
func (s *Server) waitTried(ctx context.Context, identities []*identity) error {
	for _, i := range identities {
		select {
		case <-i.tried:
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case <-s.stopping:
			return errStopping
		}
	}
	return nil
}

// ready returns the certificates that are valid now, or why there are none.
func ready(identities []*identity, now time.Time) ([]*svid, error) {
	var svids []*svid
	var reasons []error
	for _, i := range identities {
		current, err := i.current(now)
		if err != nil {
			reasons = append(reasons, err)
			continue
		}
		svids = append(svids, current)
	}
	return svids, errors.Join(reasons...)
}

// holdings are the identities that one stream keeps alive.
type holdings struct {
	registry *registry
	held     map[string]*identity
}

// replace holds the identities of exactly these names and returns them in order. What stays is held all the while.
func (h *holdings) replace(wanted []names) []*identity {
	next := map[string]*identity{}
	list := make([]*identity, 0, len(wanted))
	for _, n := range wanted {
		key := n.key()
		i, ok := h.held[key]
		if !ok {
			i = h.registry.hold(n)
		}
		delete(h.held, key)
		next[key] = i
		list = append(list, i)
	}
	for _, i := range h.held {
		h.registry.release(i)
	}
	h.held = next
	return list
}

// streamCount bounds the streams of one process. Safe for concurrent use.
type streamCount struct {
	most int

	mu   sync.Mutex
	open map[process]int
}

func (c *streamCount) admit(p process) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[p] >= c.most {
		return errors.New("too many streams of this process are open")
	}
	c.open[p]++
	return nil
}

func (c *streamCount) release(p process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[p]--; c.open[p] == 0 {
		delete(c.open, p)
	}
}
