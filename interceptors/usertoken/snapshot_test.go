package usertoken_test

import (
	"sync/atomic"
	"testing"
	"time"

	tokensv1 "example.com/rolecall/gen/tokens/v1"
	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/interceptors/usertoken"
)

// TestASnapshotThatNeverEndsHoldsNoRevocationBack: heartbeats alone do not keep such a stream, nor make the view look new.
func TestASnapshotThatNeverEndsHoldsNoRevocationBack(t *testing.T) {
	t.Parallel()
	m := newMesh(t, func(c *meshConfig) { c.silence = 4 * time.Second })
	token := m.tokens.mint("alice", nil, claim("sid", "one"))
	m.tokens.change(func() {
		m.tokens.script = func(_ *watchRequest, stream watchStream) error {
			err := stream.Send(numbered("e1", 1, sessionRevoked("one")))
			beat := time.NewTicker(50 * time.Millisecond)
			defer beat.Stop()
			for ; err == nil && stream.Context().Err() == nil; <-beat.C {
				err = stream.Send(numbered("e1", 1, heartbeat()))
			}
			return err
		}
	})
	before := m.tokens.watches.Load()
	m.tokens.cutStreams()
	m.revokedSoon(t, token)
	eventually(t, "a view that is 2 s old", func() bool { _, age := usertoken.Following(m.feature.running); return age > 2*time.Second })
	eventually(t, "another stream", func() bool { return m.tokens.watches.Load() > before+1 })
}

func TestAResumedStreamThatComesBackWithALowerNumberIsReadAnew(t *testing.T) {
	t.Parallel()
	m := newMesh(t, func(cfg *meshConfig) {
		cfg.before = func(m *mesh) {
			m.tokens.script = func(req *watchRequest, stream watchStream) error {
				keys := numbered("e1", 0, &message{Change: &tokensv1.WatchRevocationsResponse_Keys{Keys: m.tokens.present()}})
				switch m.tokens.watches.Load() {
				case 1: // three are known, then it breaks off
					if err := stream.Send(keys); err != nil {
						return err
					}
					return stream.Send(numbered("e1", 3, completed()))
				case 2: // the service has lost one of them
					return m.tokens.sending(keys, numbered("e1", 2, completed()))(req, stream)
				}
				return m.tokens.honest(req, stream)
			}
		}
	})
	eventually(t, "third stream", func() bool { return m.tokens.watches.Load() >= 3 })
	m.tokens.mu.Lock()
	second, third := m.tokens.asked[1], m.tokens.asked[2]
	m.tokens.mu.Unlock()
	if second.GetEpoch() != "e1" || second.GetAfterSequence() != 3 {
		t.Errorf("the second stream asked for %v, want what follows on 3", second)
	}
	if third.GetEpoch() != "" || third.GetAfterSequence() != 0 {
		t.Errorf("the third stream asked for %v, want the whole snapshot", third)
	}
	m.tokens.revoke(sessionRevoked("one"))
	m.revokedSoon(t, m.tokens.mint("alice", nil, claim("sid", "one")))
}

// TestARevocationOutlivesATokenThatIsDatedAhead: by the leeway at its beginning, and good for as much after its end.
func TestARevocationOutlivesATokenThatIsDatedAhead(t *testing.T) {
	t.Parallel()
	var standing atomic.Int64
	standing.Store(time.Now().Unix())
	m := newMesh(t, func(c *meshConfig) { c.now = func() time.Time { return time.Unix(standing.Load(), 0) } })
	token := m.tokens.mint("alice", nil, at("iat", 5), at("nbf", 5), at("exp", 605))
	gone := sessionRevoked("session-of-alice")
	gone.GetSession().ForgetAfter = nil
	m.tokens.revoke(gone)
	m.revokedSoon(t, token)
	standing.Add(609)
	usertoken.Forget(m.feature.running, time.Unix(standing.Load(), 0))
	if _, verdict, _ := m.feature.verify(token); verdict != feature.Revoked {
		t.Errorf("verdict %d on a revoked token that has not expired", verdict)
	}
}
