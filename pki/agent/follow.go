package agent

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// Times of a stream.
const (
	unattestedWait = time.Second      // for a process of our own user that is started first and registered a moment later
	unsaidWait     = 10 * time.Second // for what there is to say at all, in the first message
	stuckAfter     = time.Minute      // a client that takes no message for so long loses its connection
)

// follow sends a message to one stream now, and again whenever it would say something else: a new certificate, another
// bundle, a registration more or less. Before each message the process is attested anew, once for all of its streams.
// build says false for a message that there is nothing to say in yet.
func follow[M proto.Message](ctx context.Context, s *Server, k kind, build func(*trust, []*svid) (M, bool), send func(M) error) error {
	info, ok := peerFrom(ctx)
	if !ok {
		return status.Error(codes.PermissionDenied, "the kernel did not say who calls")
	}
	p := info.peer
	if err := s.streams.admit(p); err != nil {
		return status.Error(codes.ResourceExhausted, err.Error())
	}
	defer s.streams.release(p)
	st := s.subjects.open(p, k, s.registry)
	defer s.subjects.close(st)
	handed := s.handed.stream()
	defer handed.end()

	var last proto.Message
	unsaid := time.NewTimer(unsaidWait)
	defer unsaid.Stop()
	names, identities, err := s.known(ctx, st)
	for {
		if err != nil {
			return s.refused(ctx, p, err)
		}
		if err := s.waitTried(ctx, identities); err != nil {
			return err
		}
		select {
		case <-st.wake: // while a certificate was signed: who was entitled before may not be now
			names, identities, err = s.look(ctx, st)
			continue
		default:
		}
		svids, reason := ready(identities, s.now())
		if len(svids) == 0 && k == svidStream {
			if last == nil {
				s.logRefused(p, "no certificate for a process", "reason", reason)
				return status.Error(codes.Unavailable, "no certificate can be issued now")
			}
			// All expired while the stream was open: nothing to say until the next one is there.
		} else if message, trust, ok := composed(s, st, svids, build); ok && last != proto.Message(message) {
			if err := p.alive(); err != nil {
				return s.refused(ctx, p, err)
			}
			stuck := time.AfterFunc(s.config.stuckAfter, info.hangUp) // frees a send that waits for a client that does not read
			err := send(message)
			stuck.Stop()
			if err != nil {
				return err
			}
			last = message
			handed.sent(k, names, svids, trust.digest)
		} else if ok && k == bundleStream {
			handed.sent(k, names, svids, trust.digest) // the same message, perhaps to another workload by now
		}
		select {
		case <-st.wake:
		case <-unsaid.C:
			if last == nil {
				return status.Error(codes.Unavailable, "what was asked for is not known yet")
			}
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		case <-s.stopping:
			return errStopping
		}
		names, identities, err = s.look(ctx, st)
	}
}

var errStopping = status.Error(codes.Unavailable, "the agent stops")

// refused turns the failure of an attestation into what the caller is told: little.
func (s *Server) refused(ctx context.Context, p peer, err error) error {
	if ctx.Err() != nil {
		return status.FromContextError(ctx.Err()).Err()
	}
	if errors.Is(err, errStopping) {
		return errStopping
	}
	s.logRefused(p, "no identity for a process", "reason", err)
	return status.Error(codes.PermissionDenied, "no identity issued")
}

// logRefused writes that a process was refused, once a second for each user.
func (s *Server) logRefused(p peer, message string, args ...any) {
	if leftOut, ok := s.refusals.may(p.uid); ok {
		s.log.Info(message, append(args, "pid", p.pid, "uid", p.uid, "left_out", leftOut)...)
	}
}

// known looks until the process of the stream is a workload: one of our own user has a moment to be registered.
func (s *Server) known(ctx context.Context, st *stream) ([]names, []*identity, error) {
	patience := time.NewTimer(s.config.unattestedWait)
	defer patience.Stop()
	for {
		found, identities, err := s.look(ctx, st)
		if !errors.Is(err, errNoIdentity) || int(st.peer.uid) != os.Geteuid() {
			return found, identities, err
		}
		select {
		case <-st.wake:
		case <-patience.C:
			return nil, nil, err
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-s.stopping:
			return nil, nil, errStopping
		}
	}
}

// look attests the process of the stream, unless another of its streams has done so since the latest event, and holds
// its identities if the stream carries certificates.
func (s *Server) look(ctx context.Context, st *stream) ([]names, []*identity, error) {
	since := st.events.Load() // before anything is read, so that no event is missed
	if err := st.take(ctx); err != nil {
		return nil, nil, err
	}
	defer st.give()
	if st.attested < since {
		at := st.events.Load()
		found, err := s.attest(ctx, st.peer, func(line []process) { s.subjects.follow(st.subject, line) })
		if ctx.Err() != nil {
			return nil, nil, ctx.Err() // this stream's affair, and not that of the others
		}
		st.attested, st.names, st.err = at, found, err
	}
	if st.err != nil || st.kind != svidStream {
		return st.names, nil, st.err
	}
	if st.heldAt != st.attested {
		st.heldAt, st.identities = st.attested, s.subjects.hold(st.subject, st.names)
	}
	return st.names, st.identities, nil
}

// composed returns the message for these certificates and the present trust: the same one as long as it says the same.
func composed[M proto.Message](s *Server, st *stream, svids []*svid, build func(*trust, []*svid) (M, bool)) (M, *trust, bool) {
	st.building.Lock()
	defer st.building.Unlock()
	trust := s.trust.Load()
	last := &st.messages[st.kind]
	kept, ok := last.message.(M)
	if ok && last.trust == trust && slices.Equal(last.svids, svids) {
		return kept, trust, true
	}
	message, said := build(trust, svids)
	if !said {
		return message, trust, false
	}
	if ok && proto.Equal(kept, message) {
		message = kept
	}
	*last = built{svids, trust, message}
	return message, trust, true
}

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
