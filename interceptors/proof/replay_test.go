package proof_test

import (
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"example.com/rolecall/interceptors/proof"
)

func TestTheSameProofTwice(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	a := m.attacker(payer)
	text := a.prove(pay, dave)
	if _, err := send(timeout(t), a.conn, pay, dave, "rolecall-proof", text); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		_, err := send(timeout(t), a.conn, pay, dave, "rolecall-proof", text)
		refused(t, err, codes.Unauthenticated, "PROOF_REPLAYED")
	}
	// Over a fresh connection of the same identity, and with another certificate of it.
	_, err := send(timeout(t), m.bare(a.source), pay, dave, "rolecall-proof", text)
	refused(t, err, codes.Unauthenticated, "PROOF_REPLAYED")
	if n := m.bank.total.Load(); n != 1 {
		t.Errorf("%d was paid, want 1", n)
	}
}

func TestTheSameProofAHundredTimesInParallel(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	a := m.attacker(payer)
	text := a.prove(pay, dave)
	var good, replayed atomic.Int64
	var sending sync.WaitGroup
	for range 100 {
		sending.Go(func() {
			switch _, err := send(timeout(t), a.conn, pay, dave, "rolecall-proof", text); {
			case err == nil:
				good.Add(1)
			case infoOf(err).GetReason() == "PROOF_REPLAYED":
				replayed.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	sending.Wait()
	if good.Load() != 1 || replayed.Load() != 99 || m.bank.total.Load() != 1 {
		t.Errorf("%d accepted, %d refused as replayed, %d paid: want 1, 99 and 1", good.Load(), replayed.Load(), m.bank.total.Load())
	}
}

func TestTheSameProofAfterARestart(t *testing.T) {
	t.Parallel()
	for name, file := range map[string]string{"with a mark on disk": filepath.Join(t.TempDir(), "mark"), "without": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMesh(t, func(c *meshConfig) { c.config.MarkFile = file })
			m.config.cold = true // from now on it starts when it starts
			a := m.attacker(payer)
			text := a.prove(pay, dave)
			if _, err := send(timeout(t), a.conn, pay, dave, "rolecall-proof", text); err != nil {
				t.Fatal(err)
			}
			m.restart()
			a.conn = m.bare(a.source)
			_, err := send(timeout(t), a.conn, pay, dave, "rolecall-proof", text)
			refused(t, err, codes.Unauthenticated, "PROOF_EXPIRED")
			// And when the server's clock was set back meanwhile, if there is a file that says how far it had been.
			if file != "" {
				m.clock.forward(-20 * time.Second)
				m.restart()
				m.clock.forward(20 * time.Second)
				a.conn = m.bare(a.source)
				_, err := send(timeout(t), a.conn, pay, dave, "rolecall-proof", text)
				refused(t, err, codes.Unauthenticated, "PROOF_EXPIRED")
			}
			// A moment later everything goes on.
			m.clock.forward(10 * time.Second)
			if _, err := send(timeout(t), a.conn, pay, dave, "rolecall-proof", a.prove(pay, dave)); err != nil {
				t.Errorf("a new proof, a while after the start: %v", err)
			}
			_, err = send(timeout(t), a.conn, pay, dave, "rolecall-proof", text)
			refused(t, err, codes.Unauthenticated, "PROOF_EXPIRED")
		})
	}
}

func TestAMarkThatCannotBeWrittenFailsClosed(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "state")
	makeFolder(t, folder)
	m := newMesh(t, func(c *meshConfig) { c.config.MarkFile = filepath.Join(folder, "mark") })
	a := m.attacker(payer)
	removeFolder(t, folder)
	_, err := send(timeout(t), a.conn, pay, dave, "rolecall-proof", a.prove(pay, dave))
	refused(t, err, codes.Unavailable, "VERIFIER_UNAVAILABLE")
	makeFolder(t, folder)
	if _, err := send(timeout(t), a.conn, pay, dave, "rolecall-proof", a.prove(pay, dave)); err != nil {
		t.Errorf("when it can be written again: %v", err)
	}
}

func TestABadSignatureWithAVictimsNonceDoesNotBurnIt(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	victim, eve := m.attacker(payer), m.attacker(second)
	nonce := newNonce()
	for _, bad := range []string{
		eve.prove(pay, dave, claim("jti", nonce), claim("iss", m.ca.ID(payer).String())),
		eve.prove(pay, dave, claim("jti", nonce), claim("iss", m.ca.ID(payer).String()), header("kid", kidOf(t, victim.key().Public()))),
		victim.prove(pay, dave, claim("jti", nonce), ownKey(victim)),
		victim.prove(gift, dave, claim("jti", nonce)),
	} {
		for _, a := range []*attacker{eve, victim} {
			if _, err := send(timeout(t), a.conn, pay, dave, "rolecall-proof", bad); err == nil {
				t.Fatal("a bad proof was accepted")
			}
		}
	}
	// Another identity with the same nonce must not collide.
	if _, err := send(timeout(t), eve.conn, pay, dave, "rolecall-proof", eve.prove(pay, dave, claim("jti", nonce))); err != nil {
		t.Errorf("another identity with the same nonce: %v", err)
	}
	if _, err := send(timeout(t), victim.conn, pay, dave, "rolecall-proof", victim.prove(pay, dave, claim("jti", nonce))); err != nil {
		t.Errorf("the victim: %v", err)
	}
}

// A nonce that is not random is its signer's own affair: it is good once.
func TestANonceThatIsNotRandomIsGoodOnce(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	for _, path := range []string{payer, second} {
		a := m.attacker(path)
		zeros := claim("jti", "AAAAAAAAAAAAAAAAAAAAAA")
		if _, err := send(timeout(t), a.conn, pay, dave, "rolecall-proof", a.prove(pay, dave, zeros)); err != nil {
			t.Errorf("%s: a nonce of zeros: %v", path, err)
		}
		_, err := send(timeout(t), a.conn, pay, dave, "rolecall-proof", a.prove(pay, dave, zeros))
		refused(t, err, codes.Unauthenticated, "PROOF_REPLAYED")
	}
}

func TestAFullWindowRefusesOneIdentityAndNotTheOthers(t *testing.T) {
	t.Parallel()
	m := newMesh(t, func(c *meshConfig) { c.config.PerSigner = 3 })
	greedy, other := m.attacker(payer), m.attacker(second)
	for i := range 3 {
		if _, err := send(timeout(t), greedy.conn, pay, dave, "rolecall-proof", greedy.prove(pay, dave)); err != nil {
			t.Fatalf("nonce %d: %v", i, err)
		}
	}
	_, err := send(timeout(t), greedy.conn, pay, dave, "rolecall-proof", greedy.prove(pay, dave))
	refused(t, err, codes.ResourceExhausted, "PROOF_WINDOW_FULL")
	if _, err := send(timeout(t), other.conn, pay, dave, "rolecall-proof", other.prove(pay, dave)); err != nil {
		t.Errorf("another identity: %v", err)
	}
}

// TestWindowEdgesToTheSecond has the clock stand still.
func TestWindowEdgesToTheSecond(t *testing.T) {
	t.Parallel()
	for _, leeway := range []struct {
		configured time.Duration
		seconds    int64
	}{{0, 5}, {proof.NoLeeway, 0}, {30 * time.Second, 30}} {
		t.Run(fmt.Sprint(leeway.configured), func(t *testing.T) {
			t.Parallel()
			var ahead atomic.Int64 // in seconds
			standing := time.Unix(time.Now().Unix(), 0)
			ahead.Store(-1000)
			m := newMesh(t, func(c *meshConfig) {
				c.config.Leeway = leeway.configured
				c.now = func() time.Time { return standing.Add(time.Duration(ahead.Load()) * time.Second) }
			})
			ahead.Store(0)
			a, l := m.attacker(payer), leeway.seconds
			for _, c := range []struct {
				name     string
				iat, exp int64 // from now
				want     string
			}{
				{"the last second before exp and leeway", -30, -l + 1, ""},
				{"exp and leeway", -31, -l, "PROOF_EXPIRED"},
				{"a second later", -32, -l - 1, "PROOF_EXPIRED"},
				{"iat ahead by the leeway", l, l + 30, ""},
				{"iat ahead by a second more", l + 1, l + 30, "PROOF_INVALID"},
				{"as long a life as is allowed", 0, 60, ""},
				{"a second longer", 0, 61, "PROOF_INVALID"},
				{"a second longer, which began earlier", -20, 41, "PROOF_INVALID"},
			} {
				_, err := send(timeout(t), a.conn, pay, dave, "rolecall-proof", a.prove(pay, dave, in("iat", c.iat), in("exp", c.exp)))
				if got := infoOf(err).GetReason(); got != c.want || (err == nil) != (c.want == "") {
					t.Errorf("%s: got %q, %v, want %q", c.name, got, err, c.want)
				}
			}
			// A proof is refused as a replay for as long as it could be accepted, and as expired from then on.
			text := a.prove(pay, dave, in("exp", 10))
			if _, err := send(timeout(t), a.conn, pay, dave, "rolecall-proof", text); err != nil {
				t.Fatal(err)
			}
			for second := int64(0); second <= 10+l+20; second++ {
				ahead.Store(second)
				want := "PROOF_REPLAYED"
				if second >= 10+l {
					want = "PROOF_EXPIRED"
				}
				_, err := send(timeout(t), a.conn, pay, dave, "rolecall-proof", text)
				if got := infoOf(err).GetReason(); got != want {
					t.Errorf("the same proof after %d s: got %q, want %q", second, got, want)
				}
				// Others keep the window busy, so that it forgets.
				if _, err := send(timeout(t), a.conn, pay, dave, "rolecall-proof", a.prove(pay, dave)); err != nil {
					t.Errorf("a new proof after %d s: %v", second, err)
				}
			}
			// The clock is set back to when it was good.
			ahead.Store(5)
			_, err := send(timeout(t), a.conn, pay, dave, "rolecall-proof", text)
			if got := infoOf(err).GetReason(); got != "PROOF_EXPIRED" && got != "PROOF_REPLAYED" {
				t.Errorf("the same proof after the clock was set back: got %q, %v", got, err)
			}
		})
	}
}

func TestServerClockSetBackTenMinutes(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	a := m.attacker(payer)
	// Captured while the server's clock was ten minutes ahead, and everybody's with it.
	m.clock.forward(10 * time.Minute)
	captured := a.prove(pay, dave)
	if _, err := send(timeout(t), a.conn, pay, dave, "rolecall-proof", captured); err != nil {
		t.Fatal(err)
	}
	m.clock.forward(2 * time.Minute)
	if _, err := send(timeout(t), a.conn, pay, dave, "rolecall-proof", a.prove(pay, dave)); err != nil {
		t.Fatal(err) // and the window forgets what has expired
	}
	now := a.prove(pay, dave)
	m.clock.forward(-10 * time.Minute)
	_, err := send(timeout(t), a.conn, pay, dave, "rolecall-proof", captured)
	refused(t, err, codes.Unauthenticated, "PROOF_INVALID") // issued in the future
	_, err = send(timeout(t), a.conn, pay, dave, "rolecall-proof", now)
	refused(t, err, codes.Unauthenticated, "PROOF_INVALID")
	// As far back as makes the captured one look fresh.
	m.clock.forward(8*time.Minute + 10*time.Second)
	_, err = send(timeout(t), a.conn, pay, dave, "rolecall-proof", captured)
	refused(t, err, codes.Unauthenticated, "PROOF_EXPIRED")
	if n := m.bank.total.Load(); n != 2 {
		t.Errorf("%d was paid, want 2", n)
	}
}
