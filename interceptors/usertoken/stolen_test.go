package usertoken_test

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	tokensv1 "example.com/rolecall/gen/tokens/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/interceptors/usertoken"
)

// deniable makes the shop's bindings a file, and returns what writes a deny entry into it.
func deniable(t *testing.T) (configure func(*meshConfig), deny func(entry string)) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "roles.yaml")
	must(t, os.WriteFile(file, []byte(roles), 0o600))
	return func(c *meshConfig) { c.roles = interceptors.BindingsFile(file) },
		func(entry string) { must(t, os.WriteFile(file, []byte(roles+"denied:\n  - "+entry+"\n"), 0o600)) }
}

const tokensDenied = "member: spiffe://mesh.local" + tokensPath

// keyDenied is the deny entry for the key of a source's certificate.
func keyDenied(t *testing.T, source interceptors.Source) string {
	t.Helper()
	svid, err := source.GetX509SVID()
	must(t, err)
	sum := sha256.Sum256(svid.Certificates[0].RawSubjectPublicKeyInfo)
	return "keySha256: " + hex.EncodeToString(sum[:])
}

// thief holds a stolen certificate of the tokens service, and has announced a key of its own with it.
type thief struct {
	m      *mesh
	source interceptors.Source
	key    *ecdsa.PrivateKey
}

// steal has the verifier take over keys that a thief signed, and dated ahead. The genuine service is back when it returns.
func (m *mesh) steal(t *testing.T, ahead time.Duration) *thief {
	t.Helper()
	stolen := &thief{m, m.ca.Source(tokensPath), newKey(t)}
	genuine := m.tokens.present()
	m.clock.forward(2 * time.Second)
	m.tokens.change(func() {
		good := m.tokens.keys
		m.tokens.keys = map[string]*ecdsa.PrivateKey{"evil": stolen.key}
		m.tokens.signed = m.tokens.signedKeys(stolen.source, func(c map[string]any) { c["iat"] = m.tokens.now().Add(ahead).Unix() })
		m.tokens.keys = good
	})
	m.tokens.cutStreams()
	eventually(t, "the thief's key in force", func() bool { return stolen.forge() == feature.Good })
	m.tokens.change(func() { m.tokens.signed = genuine })
	m.tokens.cutStreams()
	return stolen
}

// forge returns the verdict on a token that the thief has just signed.
func (s *thief) forge() feature.Verdict {
	_, verdict, _ := s.m.feature.verify(s.m.tokens.mint("admin", []string{"shop.vip"}, header("kid", "evil"), func(d *draft) { d.key = s.key }))
	return verdict
}

// verdictWith returns the verdict on a token that the genuine service has just signed.
func (m *mesh) verdictWith(kid string) feature.Verdict {
	_, verdict, _ := m.feature.verify(m.tokens.mint("alice", nil, header("kid", kid), func(d *draft) { d.key = m.tokens.keys[kid] }))
	return verdict
}

func TestKeysThatAThiefAnnouncedEndWithTheThiefsCertificate(t *testing.T) {
	t.Parallel()
	configure, deny := deniable(t)
	m := newMesh(t, configure)
	stolen := m.steal(t, 0)
	m.clock.forward(2 * time.Second)
	m.tokens.change(func() { m.tokens.keys["k2"], m.tokens.signed = newKey(t), nil })
	eventually(t, "newer keys of the genuine service", func() bool { return m.verdictWith("k2") == feature.Good })
	if got := stolen.forge(); got != feature.Good {
		t.Fatalf("verdict %d: a key that is no longer announced is remembered for a while, nobody has denied it", got)
	}
	m.tokens.change(func() { m.tokens.signed = &tokensv1.SignedKeys{} }) // what is dropped from now on does not come back
	deny(keyDenied(t, stolen.source))
	eventually(t, "end of the thief's key", func() bool { return stolen.forge() != feature.Good })
	// At the moment of the end nobody vouches for it, though its key stays.
	eventually(t, "token of the genuine service", func() bool { return m.verdictWith("k2") == feature.Good })
}

func TestAThiefWhoDatesKeysAheadDoesNotLockTheServiceOut(t *testing.T) {
	t.Parallel()
	configure, deny := deniable(t)
	m := newMesh(t, configure)
	stolen := m.steal(t, 4*time.Second)
	deny(keyDenied(t, stolen.source))
	eventually(t, "end of the thief's key", func() bool { return stolen.forge() != feature.Good })
	eventually(t, "keys of the genuine service, which are older", func() bool { return m.verdictWith("k1") == feature.Good })
	if got := stolen.forge(); got == feature.Good {
		t.Error("the thief's key is back")
	}
}

func TestAnOpenStreamEndsWhenTheKeysOfItsUserAreDropped(t *testing.T) {
	t.Parallel()
	configure, deny := deniable(t)
	m := newMesh(t, configure)
	stream, err := open(interceptors.AsUser(timeout(t), m.tokens.mint("alice", nil)), m.dial(seller))
	must(t, err)
	deny(tokensDenied)
	start := time.Now()
	refused(t, stream.RecvMsg(&tokensv1.GetKeysRequest{}), codes.Unavailable, "VERIFIER_UNAVAILABLE")
	t.Logf("the stream ended after %s", time.Since(start).Round(time.Millisecond))
}

// TestIssuersThatDoNotAnswerHoldUpNoDenial has eight companies whose servers take connections and say nothing: asking one
// after the other would take 16 s.
func TestIssuersThatDoNotAnswerHoldUpNoDenial(t *testing.T) {
	t.Parallel()
	var silent []usertoken.Issuer
	for i := range 8 {
		lis := listen(t)
		t.Cleanup(func() { _ = lis.Close() })
		silent = append(silent, usertoken.Issuer{URL: fmt.Sprintf("https://%d.example", i), Audience: audience, JWKSURL: "https://" + lis.Addr().(*net.TCPAddr).String()})
	}
	configure, deny := deniable(t)
	m := newMesh(t, configure, withOthers(silent...))
	token := m.tokens.mint("alice", nil)
	if _, verdict, detail := m.feature.verify(token); verdict != feature.Good {
		t.Fatalf("verdict %d, %s", verdict, detail)
	}
	deny(tokensDenied)
	eventually(t, "VERIFIER_UNAVAILABLE", func() bool { _, verdict, _ := m.feature.verify(token); return verdict == feature.Unavailable })
}

func TestAnOlderKeySetThatIsFetchedChangesNothing(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	older, stolen := m.tokens.present(), m.tokens.keys["k1"]
	m.clock.forward(2 * time.Second)
	m.tokens.change(func() { m.tokens.keys["k2"] = newKey(t); delete(m.tokens.keys, "k1") })
	eventually(t, "new key", func() bool { return m.verdictWith("k2") == feature.Good })
	m.tokens.change(func() { m.tokens.signed = older })
	fetches := m.tokens.fetches.Load()
	eventually(t, "the older keys again", func() bool {
		m.feature.verify(m.tokens.mint("alice", nil, header("kid", "unknown"), func(d *draft) { d.key = stolen }))
		return m.tokens.fetches.Load() > fetches
	})
	m.clock.forward(611 * time.Second) // more than what the old key signed lives
	if _, verdict, detail := m.feature.verify(m.tokens.mint("alice", nil, func(d *draft) { d.key = stolen })); verdict != feature.Invalid {
		t.Errorf("a key that was replaced is back: verdict %d, %s", verdict, detail)
	}
	if got := m.verdictWith("k2"); got != feature.Good {
		t.Errorf("verdict %d on a token of the new key", got)
	}
}
