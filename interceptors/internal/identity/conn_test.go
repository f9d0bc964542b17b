package identity

import (
	"crypto/x509"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
)

func newTestConn(t *testing.T, life time.Duration, closed func(*Conn)) (*Conn, net.Conn) {
	t.Helper()
	root, now := newRoot(t, "root"), time.Now()
	bundle := x509bundle.FromX509Authorities(mesh, []*x509.Certificate{root.cert})
	peer, chains, err := verify([]*x509.Certificate{root.leaf(t, ledger, now.Add(life)).cert}, bundle, now)
	must(t, err)
	raw, other := net.Pipe()
	t.Cleanup(func() { _, _ = raw.Close(), other.Close() })
	return newConn(raw, peer, chains, bundle, now, closed), other
}

func TestAConnectionExpiresByEitherClock(t *testing.T) {
	t.Parallel()
	t.Run("the wall clock was set forward", func(t *testing.T) {
		t.Parallel()
		c, _ := newTestConn(t, time.Hour, func(*Conn) {})
		if c.Expired() || c.Tick(c.NotAfter.Add(-time.Nanosecond)) {
			t.Error("expired early")
		}
		if !c.Tick(c.NotAfter) || !c.Expired() {
			t.Error("not expired")
		}
		if !c.Tick(c.NotAfter.Add(-time.Hour)) {
			t.Error("a clock that is set back makes it good again")
		}
	})
	t.Run("the wall clock was set back", func(t *testing.T) {
		t.Parallel()
		c, _ := newTestConn(t, time.Second, func(*Conn) {})
		eventually(t, "expiry by the monotonic clock", func() bool { return c.Tick(time.Now().Add(-time.Hour)) })
	})
}

func TestAConnectionIsClosedOnce(t *testing.T) {
	t.Parallel()
	var closed atomic.Int64
	c, other := newTestConn(t, time.Hour, func(*Conn) { closed.Add(1) })
	const delay = 20 * time.Millisecond
	start := time.Now()
	c.CloseAfter(delay)
	c.CloseAfter(time.Hour)
	if _, err := other.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is still open")
	}
	if after := time.Since(start); after < delay {
		t.Errorf("it was closed after %s, want %s for what is on its way", after, delay)
	}
	must(t, c.Close())
	if n := closed.Load(); n != 1 {
		t.Errorf("its owner was told %d times", n)
	}
}
