package identity

import (
	"crypto/x509"
	"net"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// crossSigned is a leaf of an hour whose issuer two roots have certified: the first for two hours, the second for a
// minute. A peer presents both in the order that it likes.
type crossSigned struct {
	first, second *x509.Certificate // roots
	bundle        *x509bundle.Bundle
	leaf          *x509.Certificate
	now           time.Time
	conn          *Conn
}

func forBothOrders(t *testing.T, test func(*testing.T, *crossSigned)) {
	t.Helper()
	for _, order := range []string{"the lasting issuer first", "the brief issuer first"} {
		t.Run(order, func(t *testing.T) {
			t.Parallel()
			now := time.Now()
			first, second, key := newRoot(t, "first"), newRoot(t, "second"), newKey(t)
			lasting, brief := first.issuer(t, key, now.Add(2*time.Hour)), second.issuer(t, key, now.Add(time.Minute))
			c := &crossSigned{
				first: first.cert, second: second.cert, now: now,
				bundle: x509bundle.FromX509Authorities(mesh, []*x509.Certificate{first.cert, second.cert}),
				leaf:   lasting.leaf(t, ledger, now.Add(time.Hour)).cert,
			}
			presented := []*x509.Certificate{c.leaf, lasting.cert, brief.cert}
			if order == "the brief issuer first" {
				presented = []*x509.Certificate{c.leaf, brief.cert, lasting.cert}
			}
			peer, chains, err := verify(presented, c.bundle, now)
			must(t, err)
			if len(chains) != 2 {
				t.Fatalf("verify found %d chains, want 2", len(chains))
			}
			raw, other := net.Pipe()
			t.Cleanup(func() { _, _ = raw.Close(), other.Close() })
			c.conn = newConn(raw, peer, chains, c.bundle, now, func(*Conn) {})
			test(t, c)
		})
	}
}

// trusted asks for the chains after d, when nothing is denied.
func (c *crossSigned) trusted(d time.Duration) int {
	return len(c.conn.Trusted(ReadTrust(c.bundle, []spiffeid.TrustDomain{mesh}), c.now.Add(d), noneDenied))
}

func noneDenied(Key) bool { return false }

func TestAConnectionLivesAsLongAsTheBestOfItsChains(t *testing.T) {
	t.Parallel()
	forBothOrders(t, func(t *testing.T, c *crossSigned) {
		if !c.conn.NotAfter.Equal(c.leaf.NotAfter) {
			t.Errorf("the connection ends at %s, the leaf at %s", c.conn.NotAfter, c.leaf.NotAfter)
		}
		if n := c.trusted(30 * time.Minute); n != 1 {
			t.Errorf("after half an hour %d chains are good, want the lasting one", n)
		}
		if c.conn.Tick(c.now.Add(59*time.Minute)) || !c.conn.Tick(c.leaf.NotAfter) {
			t.Error("the connection does not end with its leaf")
		}
	})
}

func TestAConnectionEndsWithTheChainThatIsLeft(t *testing.T) {
	t.Parallel()
	forBothOrders(t, func(t *testing.T, c *crossSigned) {
		c.bundle.RemoveX509Authority(c.first)
		if n := c.trusted(0); n != 1 {
			t.Fatalf("%d chains are good, want the brief one", n)
		}
		if c.conn.Tick(c.now.Add(50 * time.Second)) {
			t.Error("the connection ended early")
		}
		if !c.conn.Tick(c.now.Add(time.Minute)) || !c.conn.Expired() {
			t.Error("the only chain that was left has expired, the connection has not")
		}
	})
}

func TestAChainThatHasExpiredDoesNotStandInForOneThatIsGone(t *testing.T) {
	t.Parallel()
	forBothOrders(t, func(t *testing.T, c *crossSigned) {
		c.bundle.RemoveX509Authority(c.first)
		if n := c.trusted(30 * time.Minute); n != 0 {
			t.Errorf("%d chains are good, the brief one expired 29 minutes ago", n)
		}
	})
}

func TestARootThatComesBackIsTrustedAgain(t *testing.T) {
	t.Parallel()
	forBothOrders(t, func(t *testing.T, c *crossSigned) {
		c.bundle.RemoveX509Authority(c.first)
		c.trusted(0)
		c.bundle.AddX509Authority(c.first)
		if n := c.trusted(0); n == 0 || c.conn.Tick(c.now.Add(30*time.Minute)) {
			t.Errorf("%d chains are good, expired after half an hour: %v", n, c.conn.Expired())
		}
	})
}

func TestADeniedCACutsTheChainsThroughIt(t *testing.T) {
	t.Parallel()
	forBothOrders(t, func(t *testing.T, c *crossSigned) {
		trust := ReadTrust(c.bundle, []spiffeid.TrustDomain{mesh})
		chains := *c.conn.chains.Load()
		for name, denied := range map[string]struct {
			key  Key
			left int
		}{
			"the issuer of both": {chains[0].CAs[0], 0},
			"one root":           {chains[0].CAs[1], 1},
			"the other root":     {chains[1].CAs[1], 1},
		} {
			if n := len(c.conn.Trusted(trust, c.now, func(key Key) bool { return key == denied.key })); n != denied.left {
				t.Errorf("%s denied: %d chains are good, want %d", name, n, denied.left)
			}
		}
	})
}
