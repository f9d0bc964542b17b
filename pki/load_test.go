package pki

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Opening a key takes a fifth of a second, and a process refreshes every few seconds.
func TestARefreshOpensNoKeyASecondTime(t *testing.T) {
	t.Parallel()
	ca, _, err := OpenOrCreate(filepath.Join(t.TempDir(), "ca"), Config{TrustDomain: testDomain})
	must(t, err)
	s := ca.Issuers()
	must(t, s.RotateJWT())
	before := s.state.Load()
	// Whoever opened a key now would need the credential.
	must(t, os.Rename(s.credential, s.credential+".away"))
	must(t, s.Refresh())
	after := s.state.Load()
	if after == before || len(after.issuers) != 1 || after.issuers[0].key != before.issuers[0].key {
		t.Error("the issuer's key was opened again")
	}
	if len(after.jwt.keys) == 0 || after.jwt.keys[0] != before.jwt.keys[0] {
		t.Error("the JWT key was opened again, or lost")
	}
	_, err = s.Issue(Leaf{ID: testDomain.ID(), PublicKey: ca.Root().Certificate().PublicKey})
	if err == nil || !strings.Contains(err.Error(), "with a path") {
		t.Errorf("Issue for a trust domain: %v, want a refusal", err)
	}
}

func TestStrayFilesAmongTheIssuersAreNamed(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"0001x.pem":         "the name of an issuer's file is its generation",
		"0000.pem":          "the name of an issuer's file is its generation",
		"0001.pem":          "not PEM",
		"0001.request.pem":  "", // read when it is needed
		"notes.txt":         "",
		".0002.pem.1234567": "", // left by a crash while it was written
	} {
		dir := t.TempDir()
		must(t, CreateAuthority(dir, testDomain, nil))
		must(t, os.WriteFile(filepath.Join(dir, issuersDir, name), []byte("half a fi"), 0o600))
		_, err := OpenIssuers(dir, nil)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	dir := t.TempDir()
	must(t, CreateAuthority(dir, testDomain, nil))
	for n := range maxIssuers + 1 {
		must(t, os.WriteFile((&Issuers{dir: dir}).issuerPath(n+1), nil, 0o600))
	}
	if _, err := OpenIssuers(dir, nil); err == nil || !strings.Contains(err.Error(), "at most 64") {
		t.Errorf("65 issuers: %v, want a refusal", err)
	}
}
