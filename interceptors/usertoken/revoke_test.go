package usertoken_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	tokensv1 "example.com/rolecall/gen/tokens/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/interceptors/usertoken"
)

// revokedSoon waits until the verifier refuses a token as revoked.
func (m *mesh) revokedSoon(t *testing.T, token string) {
	t.Helper()
	eventually(t, "USER_TOKEN_REVOKED", func() bool {
		_, verdict, _ := m.feature.verify(token)
		return verdict == feature.Revoked
	}, func() any { return m.log.String() })
}

// withinASecond wants one of three measurements to be a second at most: on a machine that does much else a second can pass
// without anything being wrong.
func withinASecond(t *testing.T, measure func() time.Duration) {
	t.Helper()
	for range 3 {
		if measure() <= time.Second {
			return
		}
	}
	t.Error("it took more than a second, three times")
}

// stopwatch returns what tells how long ago that was, without the time in which a goroutine that wanted to run was not let.
func stopwatch() (elapsed func() time.Duration) {
	const nap = 5 * time.Millisecond
	start, stop, lost := time.Now(), make(chan struct{}), make(chan time.Duration)
	go func() {
		var sum time.Duration
		for begun := start; ; begun = time.Now() {
			select {
			case <-stop:
				lost <- sum
				return
			case <-time.After(nap):
				sum += max(0, time.Since(begun)-nap)
			}
		}
	}()
	return func() time.Duration {
		took := time.Since(start)
		close(stop)
		return took - <-lost
	}
}

func TestWhatIsRevokedIsRefusedWithinASecond(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	conn := m.dial(seller)
	as := func(token string) context.Context { return interceptors.AsUser(timeout(t), token) }
	one, two := m.tokens.mint("alice", nil, claim("sid", "one")), m.tokens.mint("alice", nil, claim("sid", "two"))
	other := m.tokens.mint("bernd", nil, claim("sid", "three"))
	for _, token := range []string{one, two, other} {
		must(t, invoke(as(token), conn, self))
	}
	withinASecond(t, func() time.Duration {
		session := rand.Text()
		token := m.tokens.mint("alice", nil, claim("sid", session))
		took := stopwatch()
		m.tokens.revoke(sessionRevoked(session))
		m.revokedSoon(t, token)
		return took()
	})
	m.tokens.revoke(sessionRevoked("one"))
	m.revokedSoon(t, one)
	refused(t, invoke(as(one), conn, self), codes.Unauthenticated, "USER_TOKEN_REVOKED")
	refused(t, invoke(as(m.tokens.mint("alice", nil, claim("sid", "one"))), conn, self), codes.Unauthenticated, "USER_TOKEN_REVOKED")
	must(t, invoke(as(two), conn, self))
	must(t, invoke(as(other), conn, self))

	m.tokens.revoke(generationRaised("alice", 2))
	m.revokedSoon(t, two)
	refused(t, invoke(as(two), conn, self), codes.Unauthenticated, "USER_TOKEN_REVOKED")
	must(t, invoke(as(other), conn, self))
	must(t, invoke(as(m.tokens.mint("alice", nil, claim("sid", "four"), claim("gen", 2))), conn, self))
	m.audit.find(t, map[string]any{"verdict": "denied", "reason": "USER_TOKEN_REVOKED", "detail": "a token of alice"})
}

// TestTokenOfADisabledUser: the users service raises the generation of who is disabled.
func TestTokenOfADisabledUser(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	token := m.tokens.mint("alice", nil)
	m.tokens.revoke(generationRaised("alice", 2))
	m.revokedSoon(t, token)
	refused(t, invoke(interceptors.AsUser(timeout(t), token), m.dial(seller), self), codes.Unauthenticated, "USER_TOKEN_REVOKED")
}

func TestAnOpenStreamEndsWithItsUser(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, reason string
		end          func(m *mesh)
	}{
		{"session revoked", "USER_TOKEN_REVOKED", func(m *mesh) { m.tokens.revoke(sessionRevoked("session-of-alice")) }},
		{"generation raised", "USER_TOKEN_REVOKED", func(m *mesh) { m.tokens.revoke(generationRaised("alice", 2)) }},
		{"token expired", "USER_TOKEN_EXPIRED", func(m *mesh) { m.clock.forward(505 * time.Second) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var m *mesh
			var still grpc.ClientStream
			withinASecond(t, func() time.Duration {
				m = newMesh(t)
				conn := m.dial(seller)
				stream, err := open(interceptors.AsUser(timeout(t), m.tokens.mint("alice", nil)), conn)
				must(t, err)
				m.clock.forward(100 * time.Second) // what is issued now lives longer
				still, err = open(interceptors.AsUser(timeout(t), m.tokens.mint("bernd", nil)), conn)
				must(t, err)
				elapsed := stopwatch()
				c.end(m)
				err = stream.RecvMsg(&tokensv1.GetKeysRequest{})
				took := elapsed()
				refused(t, err, codes.Unauthenticated, c.reason)
				t.Logf("the stream ended after %s", took.Round(time.Millisecond))
				return took
			})
			m.audit.find(t, map[string]any{"event": "stream", "verdict": "denied", "reason": c.reason, "user": "alice"})
			ended := make(chan error, 1)
			go func() { ended <- still.RecvMsg(&tokensv1.GetKeysRequest{}) }()
			select {
			case err := <-ended:
				t.Errorf("the stream of another user ended as well: %v", err)
			case <-time.After(300 * time.Millisecond):
			}
		})
	}
}

func TestTheStreamOfRevocationsIsCut(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	one, two := m.tokens.mint("alice", nil, claim("sid", "one")), m.tokens.mint("alice", nil, claim("sid", "two"))
	m.tokens.revoke(sessionRevoked("one"))
	m.revokedSoon(t, one)
	// What is revoked while it is down is there when it is up again, and what was revoked before still is.
	for range 5 {
		m.tokens.cutStreams()
		m.tokens.revoke(sessionRevoked("other"))
	}
	m.tokens.revoke(sessionRevoked("two"))
	m.revokedSoon(t, two)
	m.revokedSoon(t, one)
	m.tokens.mu.Lock()
	defer m.tokens.mu.Unlock()
	for i, req := range m.tokens.asked[1:] {
		if req.GetEpoch() != "e1" || req.GetAfterSequence() < 1 {
			t.Errorf("stream %d asked for %v, want what follows on what is known", i+2, req)
		}
	}
}

// sending is a script of one stream: it sends what it is told, and is then silent until it is cut.
func (s *tokens) sending(messages ...*message) func(*watchRequest, watchStream) error {
	return func(req *watchRequest, stream watchStream) error {
		for _, m := range messages {
			if err := stream.Send(m); err != nil {
				return err
			}
		}
		s.mu.Lock()
		cut := s.cut
		s.mu.Unlock()
		select {
		case <-stream.Context().Done():
		case <-cut:
		}
		return stream.Context().Err()
	}
}

func numbered(epoch string, sequence int64, m *message) *message {
	m.Epoch, m.Sequence = epoch, sequence
	return m
}

func completed() *message {
	return &message{Change: &tokensv1.WatchRevocationsResponse_SnapshotComplete{SnapshotComplete: &tokensv1.SnapshotComplete{}}}
}

func heartbeat() *message {
	return &message{Change: &tokensv1.WatchRevocationsResponse_Heartbeat{Heartbeat: &tokensv1.Heartbeat{}}}
}

// TestAStreamOfRevocationsThatCannotBeTrueIsReadAnew has the first stream send what a broken or hostile service would. What
// was revoked on it stays revoked, and the next stream begins with a whole snapshot.
func TestAStreamOfRevocationsThatCannotBeTrueIsReadAnew(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		sent []*message
	}{
		{"a gap", []*message{numbered("e1", 3, completed()), numbered("e1", 5, sessionRevoked("one"))}},
		{"replayed", []*message{numbered("e1", 3, completed()), numbered("e1", 4, sessionRevoked("one")), numbered("e1", 4, sessionRevoked("one"))}},
		{"reordered", []*message{numbered("e1", 3, completed()), numbered("e1", 5, sessionRevoked("one")), numbered("e1", 4, sessionRevoked("x"))}},
		{"a lower number", []*message{numbered("e1", 3, completed()), numbered("e1", 4, sessionRevoked("one")), numbered("e1", 2, sessionRevoked("x"))}},
		{"a heartbeat that knows of more", []*message{numbered("e1", 3, completed()), numbered("e1", 4, sessionRevoked("one")), numbered("e1", 9, heartbeat())}},
		{"a heartbeat that knows of less", []*message{numbered("e1", 3, completed()), numbered("e1", 4, sessionRevoked("one")), numbered("e1", 3, heartbeat())}},
		{"another epoch", []*message{numbered("e1", 3, completed()), numbered("e1", 4, sessionRevoked("one")), numbered("e2", 5, heartbeat())}},
		{"two epochs in a snapshot", []*message{numbered("e1", 3, sessionRevoked("one")), numbered("e2", 5, completed())}},
		{"no epoch", []*message{numbered("e1", 3, completed()), numbered("e1", 4, sessionRevoked("one")), numbered("", 5, heartbeat())}},
		{"a negative number", []*message{numbered("e1", 3, completed()), numbered("e1", 4, sessionRevoked("one")), numbered("e1", math.MinInt64, heartbeat())}},
		{"a revocation of nobody", []*message{numbered("e1", 3, completed()), numbered("e1", 4, sessionRevoked("one")), numbered("e1", 5, sessionRevoked(""))}},
		{"a name of 257 bytes", []*message{numbered("e1", 3, completed()), numbered("e1", 4, sessionRevoked("one")), numbered("e1", 5, sessionRevoked(pad(257)))}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var keys *message
			m := newMesh(t, func(cfg *meshConfig) {
				cfg.before = func(m *mesh) {
					// The keys first, then what the row sends.
					keys = numbered("e1", 0, &message{Change: &tokensv1.WatchRevocationsResponse_Keys{Keys: m.tokens.present()}})
					first := m.tokens.sending(append([]*message{keys}, c.sent...)...)
					m.tokens.script = func(req *watchRequest, stream watchStream) error {
						if m.tokens.watches.Load() == 1 {
							return first(req, stream)
						}
						return m.tokens.honest(req, stream)
					}
				}
			})
			eventually(t, "second stream", func() bool { return m.tokens.watches.Load() >= 2 })
			m.tokens.mu.Lock()
			again := m.tokens.asked[1]
			m.tokens.mu.Unlock()
			if again.GetEpoch() != "" || again.GetAfterSequence() != 0 {
				t.Errorf("the second stream asked for %v, want the whole snapshot", again)
			}
			m.revokedSoon(t, m.tokens.mint("alice", nil, claim("sid", "one")))
			eventually(t, "view that is in order", func() bool {
				_, verdict, _ := m.feature.verify(m.tokens.mint("alice", nil, claim("sid", "good")))
				return verdict == feature.Good
			})
			m.tokens.revoke(sessionRevoked("good"))
			m.revokedSoon(t, m.tokens.mint("alice", nil, claim("sid", "good")))
		})
	}
}

func TestANewEpochBringsAWholeSnapshotAndForgetsNothing(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	one, two := m.tokens.mint("alice", nil, claim("sid", "one")), m.tokens.mint("alice", nil, claim("sid", "two"))
	m.tokens.revoke(sessionRevoked("one"))
	m.tokens.revoke(generationRaised("bernd", 7))
	m.revokedSoon(t, one)
	m.tokens.change(func() { m.tokens.epoch, m.tokens.log = "restored", nil })
	m.tokens.revoke(sessionRevoked("two"))
	m.tokens.revoke(generationRaised("bernd", 3)) // a generation never goes down
	m.tokens.cutStreams()
	m.revokedSoon(t, two)
	m.revokedSoon(t, one)
	m.revokedSoon(t, m.tokens.mint("bernd", nil, claim("gen", 5)))
}

func TestGenerationOverflowEndsAllTokensOfTheUser(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	for i, generation := range []int64{math.MaxInt64, 1 << 53, -1, math.MinInt64} {
		user := fmt.Sprintf("user%d", i)
		m.tokens.revoke(generationRaised(user, generation))
		m.revokedSoon(t, m.tokens.mint(user, nil, claim("gen", int64(1<<53-1))))
	}
	m.tokens.revoke(generationRaised("alice", 1<<53-1))
	m.revokedSoon(t, m.tokens.mint("alice", nil, claim("gen", int64(1<<53-2))))
	if _, verdict, detail := m.feature.verify(m.tokens.mint("alice", nil, claim("gen", int64(1<<53-1)))); verdict != feature.Good {
		t.Errorf("the highest generation that there is: %d, %s", verdict, detail)
	}
}

func TestAVerifierThatStartsWhileTokensIsDown(t *testing.T) {
	t.Parallel()
	m := newMesh(t, func(c *meshConfig) { c.down = true })
	conn := m.dial(seller)
	token := m.tokens.mint("alice", nil)
	must(t, invoke(timeout(t), conn, look)) // who needs no user is served
	err := invoke(interceptors.AsUser(timeout(t), token), conn, self)
	refused(t, err, codes.Unavailable, "VERIFIER_UNAVAILABLE")
	refused(t, invoke(timeout(t), conn, self), codes.Unauthenticated, "USER_REQUIRED")
	refused(t, invoke(interceptors.AsUser(timeout(t), "nonsense"), conn, self), codes.Unauthenticated, "USER_TOKEN_INVALID")
	m.up.Store(true)
	eventually(t, "recovery", func() bool { return invoke(interceptors.AsUser(timeout(t), token), conn, self) == nil },
		func() any { return m.log.String() })
	m.audit.find(t, map[string]any{"verdict": "denied", "reason": "VERIFIER_UNAVAILABLE"})
}

func TestAVerifierWithKeysButWithoutASnapshotIsUnavailable(t *testing.T) {
	t.Parallel()
	m := newMesh(t, func(c *meshConfig) { c.down = true })
	release := make(chan struct{})
	script := func(req *watchRequest, stream watchStream) error {
		if err := stream.Send(numbered("e1", 0, &message{Change: &tokensv1.WatchRevocationsResponse_Keys{Keys: m.tokens.present()}})); err != nil {
			return err
		}
		select {
		case <-release:
			return m.tokens.honest(req, stream)
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
	m.tokens.change(func() { m.tokens.script = script })
	token := m.tokens.mint("alice", nil)
	eventually(t, "first attempt that failed", func() bool { return strings.Contains(m.log.String(), "cannot be followed") })
	m.up.Store(true)
	eventually(t, "keys", func() bool {
		_, verdict, detail := m.feature.verify(token)
		return verdict == feature.Unavailable && detail == "a token of alice"
	})
	close(release)
	eventually(t, "snapshot", func() bool { _, verdict, _ := m.feature.verify(token); return verdict == feature.Good })
}

func TestTokensAreAcceptedWhileTheServiceIsDownAndTheViewGetsOld(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	before, after := m.tokens.mint("alice", nil), m.tokens.mint("bernd", nil)
	_, verdict, _ := m.feature.verify(before)
	if verdict != feature.Good {
		t.Fatalf("verdict %d", verdict)
	}
	m.tokens.change(func() {
		m.tokens.script = func(*watchRequest, watchStream) error { return errors.New("down") }
	})
	m.tokens.cutStreams()
	eventually(t, "view that is old", func() bool { _, age := usertoken.Following(m.feature.running); return age > 300*time.Millisecond })
	for _, token := range []string{before, after} {
		if _, verdict, detail := m.feature.verify(token); verdict != feature.Good {
			t.Errorf("verdict %d, %s", verdict, detail)
		}
	}
	m.clock.forward(606 * time.Second)
	if _, verdict, _ := m.feature.verify(before); verdict != feature.Expired {
		t.Errorf("verdict %d after ten minutes, want expired", verdict)
	}
}

func TestASilentStreamIsOpenedAnew(t *testing.T) {
	t.Parallel()
	m := newMesh(t, func(c *meshConfig) { c.silence = time.Second })
	m.tokens.change(func() { m.tokens.quiet = true })
	streams := m.tokens.watches.Load()
	eventually(t, "another stream", func() bool { return m.tokens.watches.Load() > streams })
	m.tokens.change(func() { m.tokens.quiet = false })
	eventually(t, "a stream that is heard", func() bool { _, age := usertoken.Following(m.feature.running); return age < 200*time.Millisecond })
}
