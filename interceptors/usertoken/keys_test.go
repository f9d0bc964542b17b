package usertoken_test

import (
	"crypto/ecdsa"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tokensv1 "example.com/rolecall/gen/tokens/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/interceptors/usertoken"
	"example.com/rolecall/rolecalltest"
)

// TestAttacksWithKeySetsAreRefused has a tokens service hand over keys that are not its own to give.
func TestAttacksWithKeySetsAreRefused(t *testing.T) {
	t.Parallel()
	set := func(name string, value any) func(map[string]any) { return func(c map[string]any) { c[name] = value } }
	signed := func(change func(map[string]any)) func(*mesh) *tokensv1.SignedKeys {
		return func(m *mesh) *tokensv1.SignedKeys { return m.tokens.signedKeys(m.tokens.source, change) }
	}
	now := time.Now().Unix()
	for _, c := range []struct {
		name, want string
		keys       func(*mesh) *tokensv1.SignedKeys
	}{
		{"nothing", "chain of 0", func(*mesh) *tokensv1.SignedKeys { return nil }},
		{"signed by another workload", "not by spiffe://mesh.local/service/tokens", func(m *mesh) *tokensv1.SignedKeys {
			return m.tokens.signedKeys(m.ca.Source("/service/ledger"), set("iss", "spiffe://mesh.local/service/tokens"))
		}},
		{"signed under another root", "certificate of the signer", func(m *mesh) *tokensv1.SignedKeys {
			return m.tokens.signedKeys(rolecalltest.NewCA(t, "mesh.local").Source(tokensPath), nil)
		}},
		{"signed by a service of that name in another trust domain", "certificate of the signer", func(m *mesh) *tokensv1.SignedKeys {
			return m.tokens.signedKeys(rolecalltest.NewCA(t, "other.local").Source(tokensPath), set("iss", "spiffe://mesh.local/service/tokens"))
		}},
		{"signed with an expired certificate", "certificate of the signer", func(m *mesh) *tokensv1.SignedKeys {
			return m.tokens.signedKeys(m.ca.Source(tokensPath, func(c *x509.Certificate) {
				c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(-time.Minute)
			}), nil)
		}},
		{"signed with a certificate of a CA", "certificate of the signer", func(m *mesh) *tokensv1.SignedKeys {
			return m.tokens.signedKeys(m.ca.Source(tokensPath, func(c *x509.Certificate) { c.IsCA = true; c.KeyUsage |= x509.KeyUsageCertSign }), nil)
		}},
		{"the chain of the service, another signature", "signature is not valid", func(m *mesh) *tokensv1.SignedKeys {
			forged := m.tokens.signedKeys(m.ca.Source(tokensPath), nil)
			forged.Chain = m.tokens.signedKeys(m.tokens.source, nil).Chain
			return forged
		}},
		{"a chain that is no certificate", "certificate 1 of the chain", func(m *mesh) *tokensv1.SignedKeys {
			return &tokensv1.SignedKeys{Jws: m.tokens.signedKeys(m.tokens.source, nil).GetJws(), Chain: [][]byte{{1, 2, 3}}}
		}},
		{"a chain of seven", "chain of 7", func(m *mesh) *tokensv1.SignedKeys {
			k := m.tokens.signedKeys(m.tokens.source, nil)
			k.Chain = [][]byte{k.Chain[0], k.Chain[0], k.Chain[0], k.Chain[0], k.Chain[0], k.Chain[0], k.Chain[0]}
			return k
		}},
		{"an access token in the place of keys", "the type is", func(m *mesh) *tokensv1.SignedKeys {
			k := m.tokens.signedKeys(m.tokens.source, nil)
			svid, err := m.tokens.source.GetX509SVID()
			must(t, err)
			k.Jws = m.tokens.mint("alice", nil, func(d *draft) { d.key = svid.PrivateKey.(*ecdsa.PrivateKey) })
			return k
		}},
		{"another issuer", "iss", signed(set("iss", "spiffe://mesh.local/service/other"))},
		{"issued in the future", "future", signed(set("iat", now+1800))}, // which it stays, however long the test takes
		{"expired", "expired", signed(func(c map[string]any) { c["iat"], c["exp"] = now-7200, now-3600 })},
		{"a life of 32 days", "at most", signed(set("exp", now+32*24*3600))},
		{"exp float", "exp is not a whole number", signed(set("exp", float64(now)+3600.5))},
		{"no keys", "no key for ES256", signed(set("keys", []string{}))},
		{"keys missing", "keys is not an array", signed(set("keys", nil))},
		{"a private key among them", "not a public one", signed(set("keys", []map[string]string{{"kty": "EC", "d": "AAAA"}}))},
		{"an HMAC key among them", "not a public one", signed(set("keys", []map[string]string{{"kty": "oct", "k": "AAAA", "kid": "k1"}}))},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := newMesh(t, func(cfg *meshConfig) {
				cfg.before = func(m *mesh) {
					if m.tokens.signed = c.keys(m); m.tokens.signed == nil {
						m.tokens.signed = &tokensv1.SignedKeys{}
					}
				}
			})
			if _, verdict, detail := m.feature.verify(m.tokens.mint("alice", nil)); verdict != feature.Unavailable || !strings.Contains(detail, c.want) {
				t.Errorf("verdict %d (%s), want unavailable and %q", verdict, detail, c.want)
			}
			if !strings.Contains(m.log.String(), c.want) {
				t.Errorf("the log does not say %q:\n%s", c.want, m.log)
			}
			m.tokens.change(func() { m.tokens.signed = nil })
			eventually(t, "recovery", func() bool {
				_, verdict, _ := m.feature.verify(m.tokens.mint("alice", nil))
				return verdict == feature.Good
			})
		})
	}
}

func TestAnOlderKeySetDoesNotComeBack(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	old := m.tokens.present()
	stolen := m.tokens.keys["k1"]
	verdict := func(kid string) feature.Verdict {
		_, verdict, _ := m.feature.verify(m.tokens.mint("alice", nil, header("kid", kid), func(d *draft) { d.key = m.tokens.keys[kid] }))
		return verdict
	}
	m.clock.forward(2 * time.Second)
	m.tokens.change(func() { m.tokens.keys["k2"] = newKey(t); delete(m.tokens.keys, "k1") })
	eventually(t, "new key", func() bool { return verdict("k2") == feature.Good })
	// What the old key signed is good for as long as it lives.
	withOld := func() feature.Verdict {
		_, verdict, _ := m.feature.verify(m.tokens.mint("alice", nil, func(d *draft) { d.key = stolen }))
		return verdict
	}
	if got := withOld(); got != feature.Good {
		t.Errorf("verdict %d on a token of the key before, want good", got)
	}
	m.tokens.change(func() { m.tokens.signed = old })
	streams := m.tokens.watches.Load()
	m.tokens.cutStreams()
	eventually(t, "another stream", func() bool { return m.tokens.watches.Load() > streams })
	m.tokens.revoke(sessionRevoked("x"))
	m.revokedSoonQuietly() // it comes after the keys
	m.clock.forward(606 * time.Second)
	eventually(t, "end of the old key", func() bool { v := withOld(); return v == feature.Invalid })
	if got := verdict("k2"); got != feature.Good {
		t.Errorf("verdict %d on a token of the new key, want good", got)
	}
}

func TestKeysAreDroppedWhenTheirSignerIsDenied(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "roles.yaml")
	must(t, os.WriteFile(file, []byte(roles), 0o600))
	m := newMesh(t, func(c *meshConfig) { c.roles = interceptors.BindingsFile(file) })
	token := m.tokens.mint("alice", nil)
	if _, verdict, detail := m.feature.verify(token); verdict != feature.Good {
		t.Fatalf("verdict %d, %s", verdict, detail)
	}
	must(t, os.WriteFile(file, []byte(roles+"denied:\n  - member: spiffe://mesh.local/service/tokens\n"), 0o600))
	eventually(t, "VERIFIER_UNAVAILABLE for a token that was remembered", func() bool {
		_, verdict, _ := m.feature.verify(token)
		return verdict == feature.Unavailable
	})
	eventually(t, "end of what was remembered", func() bool { return usertoken.Cached(m.feature.running) == 0 })
	must(t, os.WriteFile(file, []byte(roles), 0o600))
	eventually(t, "recovery", func() bool { _, verdict, _ := m.feature.verify(token); return verdict == feature.Good })
}

func TestKeysAreDroppedWhenTheRootOfTheirSignerLeavesTheBundle(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	token := m.tokens.mint("alice", nil)
	if _, verdict, detail := m.feature.verify(token); verdict != feature.Good {
		t.Fatalf("verdict %d, %s", verdict, detail)
	}
	m.source.Trust(rolecalltest.NewCA(t, "mesh.local"))
	eventually(t, "VERIFIER_UNAVAILABLE", func() bool { _, verdict, _ := m.feature.verify(token); return verdict == feature.Unavailable })
}
