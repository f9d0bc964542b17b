package identity

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"google.golang.org/grpc/peer"
)

// Conn is an established connection and what is known of its peer. Safe for concurrent use.
type Conn struct {
	net.Conn
	*Peer

	// Shown is the own certificate that the peer has seen. Read-only.
	Shown *tls.Certificate

	// Tag is what the owner of the credentials keeps for this connection. Set in Config.Opened, read-only afterwards.
	Tag any

	local   localAddr
	bundles x509bundle.Source
	chains  atomic.Pointer[[]Chain]
	ends    atomic.Int64 // when the last good chain ends: since epoch, by the monotonic clock
	endWall atomic.Int64 // the same by the wall clock, in nanoseconds since 1970
	expired atomic.Bool
	closed  func(*Conn)
	once    sync.Once
	gone    chan struct{} // closed by Close
	doomed  atomic.Bool
}

// epoch is what monotonic times are measured from: reading only the monotonic clock costs half of time.Now.
var epoch = time.Now()

// localAddr carries the connection into the context of each of its RPCs. gRPC puts the local address of a connection
// into every context, as it got it from LocalAddr, and has no other place for something of ours; AuthInfo has to stay
// the plain credentials.TLSInfo that gRPC's own packages assert.
type localAddr struct {
	net.Addr
	conn *Conn
}

// FromContext returns the connection that an RPC came in on, or nil if the context is not one of an RPC on a connection
// that this package's credentials made.
func FromContext(ctx context.Context) *Conn {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	return FromPeer(p)
}

// FromPeer is FromContext for what grpc.Peer tells a client about the connection of its call.
func FromPeer(p *peer.Peer) *Conn {
	if addr, ok := p.LocalAddr.(*localAddr); ok {
		return addr.conn
	}
	return nil
}

func newConn(raw net.Conn, p *Peer, chains []Chain, bundles x509bundle.Source, now time.Time, closed func(*Conn)) *Conn {
	c := &Conn{Conn: raw, Peer: p, bundles: bundles, closed: closed, gone: make(chan struct{})}
	c.local = localAddr{Addr: raw.LocalAddr(), conn: c}
	c.endsWith(chains, now)
	c.chains.Store(&chains)
	return c
}

// LocalAddr returns the local address, which leads back to the connection.
func (c *Conn) LocalAddr() net.Addr { return &c.local }

// Close closes the connection. Calls after the first do nothing.
func (c *Conn) Close() (err error) {
	c.once.Do(func() {
		err = c.Conn.Close()
		c.closed(c)
		close(c.gone)
	})
	return err
}

// Cut closes the connection under gRPC, and leaves it to gRPC to call Close when it notices. Until then a call may begin on it,
// and is lost.
func (c *Conn) Cut() { _ = c.Conn.Close() }

// Gone is closed by Close.
func (c *Conn) Gone() <-chan struct{} { return c.gone }

// closeSteps is how many timers CloseAfter runs, one after the other. In a process that stood still for longer than the delay, a
// single one would be due at the same moment as the goroutine that has yet to write the status, and might win.
const closeSteps = 20

// CloseAfter closes the connection when d has passed, so that a status that was just written still gets out.
func (c *Conn) CloseAfter(d time.Duration) {
	if c.doomed.CompareAndSwap(false, true) {
		c.closeIn(closeSteps, d/closeSteps)
	}
}

func (c *Conn) closeIn(steps int, step time.Duration) {
	if steps == 0 {
		_ = c.Close()
		return
	}
	time.AfterFunc(step, func() { c.closeIn(steps-1, step) })
}

// Expired reports whether a certificate of the peer's chain is past its end. It reads the monotonic clock, which neither
// a clock that was set nor a machine that slept moves: Tick, called now and then, corrects that by the wall clock.
func (c *Conn) Expired() bool {
	return c.expired.Load() || time.Since(epoch) >= time.Duration(c.ends.Load())
}

// Tick looks at the wall clock and reports whether the connection has expired by either clock.
func (c *Conn) Tick(wall time.Time) bool {
	if wall.UnixNano() >= c.endWall.Load() {
		c.expired.Store(true)
	}
	return c.Expired()
}

// Trusted returns the verified chains of the peer that are still good: a root of the trust snapshot at their end, and no
// CA of them refused by deniedCA. Only when none is left, everything is verified anew; the result is empty if that
// fails too.
func (c *Conn) Trusted(trust *Trust, wall time.Time, deniedCA func(Key) bool) []Chain {
	good := trust.filter(c.ID.TrustDomain(), *c.chains.Load(), wall, deniedCA)
	if len(good) == 0 {
		_, fresh, err := verify(c.presented, c.bundles, wall)
		if err != nil {
			return nil
		}
		c.chains.Store(&fresh)
		good = withoutDenied(fresh, deniedCA)
	}
	if len(good) > 0 {
		c.endsWith(good, wall)
	}
	return good
}

func (c *Conn) endsWith(chains []Chain, now time.Time) {
	end := latestEnd(chains)
	c.endWall.Store(end.UnixNano())
	c.ends.Store(int64(time.Since(epoch) + end.Sub(now)))
}
