package pki_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/rolecall/pki"
)

func TestARootThatWasCarriedAwayIsNotMissed(t *testing.T) {
	t.Parallel()
	clock := newClock()
	born := clock.Now()
	config := pki.Config{TrustDomain: domain, IssuerLife: time.Hour, LeafLife: 10 * time.Minute, Now: clock.Now}
	_, dir := newCA(t, config)
	away := filepath.Join(t.TempDir(), "root")
	open := func() (*pki.CA, error) {
		ca, created, err := pki.OpenOrCreate(dir, config)
		if created {
			t.Fatal("a certificate authority was made anew")
		}
		return ca, err
	}
	for _, part := range []string{"", "root.key", "passphrase"} { // the folder, the key alone, or only what opens it
		from, to := filepath.Join(dir, pki.RootDir, part), filepath.Join(away, part)
		if part != "" {
			if err := os.MkdirAll(away, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
		ca, err := open()
		if err != nil {
			t.Fatalf("without root/%s: %v", part, err)
		}
		if ca.HasRoot() || ca.Root() != nil {
			t.Errorf("without root/%s: the root is at hand", part)
		}
		issue(t, ca.Issuers(), leafFor(t, "/service/ledger"))
		if by := ca.Issuers().ActBy(); !by.When.Equal(by.Warn.Add(ca.Issuers().Status()[0].NotAfter.Sub(ca.Issuers().Status()[0].Certificate.NotBefore)/4)) ||
			!strings.Contains(by.Command, "rolecall pki issuer csr") {
			t.Errorf("without root/%s: %+v, want the hand-over of the last issuer, and a quarter of its life before it", part, by)
		}
		if err := os.Rename(to, from); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(away); err != nil {
			t.Fatal(err)
		}
	}

	if err := os.Rename(filepath.Join(dir, pki.RootDir), away); err != nil {
		t.Fatal(err)
	}
	clock.Set(born.Add(50 * time.Minute))
	ca, err := open()
	if err != nil {
		t.Fatal(err)
	}
	if made, err := ca.Rotate(); made || err != nil {
		t.Errorf("Rotate without a root: made %v, error %v", made, err)
	}
	clock.Set(born.Add(30 * 24 * time.Hour)) // the machine was off for a month
	_, err = open()
	if err == nil || !strings.Contains(err.Error(), "every issuer has expired") || !strings.Contains(err.Error(), "rolecall pki issuer csr --ca "+filepath.Join(dir, pki.AuthorityDir)) {
		t.Errorf("everything expired, no root: %v, want what only the operator can do", err)
	}
	if err := os.Rename(away, filepath.Join(dir, pki.RootDir)); err != nil {
		t.Fatal(err)
	}
	ca, err = open()
	if err != nil {
		t.Fatalf("everything expired, the root is back: %v", err)
	}
	issue(t, ca.Issuers(), leafFor(t, "/service/ledger"))
	if got, want := line(ca.Issuers().Status()), "1 RETIRED, 2 ACTIVE"; got != want {
		t.Errorf("issuers: %s, want %s", got, want)
	}
}

func TestAWrongPassphraseIsToldAtTheStart(t *testing.T) {
	t.Parallel()
	_, dir := sharedCA(t)
	copied := filepath.Join(t.TempDir(), "ca")
	files := filesOf(t, dir)
	delete(files, "root/passphrase")
	writeFiles(t, copied, files)
	if _, _, err := pki.OpenOrCreate(copied, pki.Config{TrustDomain: domain, Passphrase: []byte("not it")}); !errors.Is(err, pki.ErrPassphrase) {
		t.Errorf("OpenOrCreate: %v, want ErrPassphrase", err)
	}
}

func TestARootThatTheAuthorityDoesNotKnowIsNotUsed(t *testing.T) {
	t.Parallel()
	_, dir := sharedCA(t)
	copied := filepath.Join(t.TempDir(), "ca")
	files := filesOf(t, dir)
	for name := range files {
		if strings.HasPrefix(name, "root/") {
			delete(files, name)
		}
	}
	writeFiles(t, copied, files)
	if _, err := pki.CreateRoot(filepath.Join(copied, pki.RootDir), []byte("passphrase"), pki.RootOptions{TrustDomain: domain}); err != nil {
		t.Fatal(err)
	}
	config := pki.Config{TrustDomain: domain, Passphrase: []byte("passphrase")}
	ca, _, err := pki.OpenOrCreate(copied, config)
	if err != nil || ca.HasRoot() {
		t.Errorf("OpenOrCreate: %v; want a start without a root", err)
	}
	config.Now = func() time.Time { return time.Now().Add(30 * 24 * time.Hour) }
	if _, _, err := pki.OpenOrCreate(copied, config); err == nil || !strings.Contains(err.Error(), "is not in the bundle") {
		t.Errorf("OpenOrCreate after a month: %v, want the reason why the root beside it does not help", err)
	}
}

// A clock that is wrong for a while, and what is there when it is right again. Nothing is made twice.
func TestAttacksOnTheClock(t *testing.T) {
	t.Parallel()
	clock := newClock()
	born := clock.Now()
	ca, dir := newCA(t, pki.Config{IssuerLife: 24 * time.Hour, LeafLife: time.Hour, Now: clock.Now})
	for _, step := range []struct {
		attack string
		after  time.Duration
		made   bool
		states string
		keys   string
	}{
		{"two hours on", 2 * time.Hour, false, "1 ACTIVE", "0001+key"},
		{"wall clock -1 h", time.Hour, false, "1 ACTIVE", "0001+key"},
		{"wall clock +2 days: everything seems to have expired, and its key is deleted", 50 * time.Hour, true, "1 RETIRED, 2 ACTIVE", "0001 0002+key"},
		{"and back: no issuer that is valid now has a key", 2*time.Hour + time.Minute, true, "1 RETIRED, 2 RETIRING, 3 ACTIVE", "0001 0002+key 0003+key"},
		{"a minute later: nothing more is made", 2*time.Hour + 2*time.Minute, false, "1 RETIRED, 2 RETIRING, 3 ACTIVE", "0001 0002+key 0003+key"},
		{"the next one, in its turn", 15 * time.Hour, true, "1 RETIRED, 2 RETIRING, 3 ACTIVE, 4 PREPARED", "0001 0002+key 0003+key 0004+key"},
		{"wall clock -1 h from there", 14 * time.Hour, false, "1 RETIRED, 2 RETIRING, 3 ACTIVE, 4 PREPARED", "0001 0002+key 0003+key 0004+key"},
		{"before the root was born: nothing can help but the right time", -time.Hour, false, "1 PREPARED, 2 PREPARED, 3 PREPARED, 4 PREPARED", "0001 0002+key 0003+key 0004+key"},
		{"right again", 15*time.Hour + time.Minute, false, "1 RETIRED, 2 RETIRING, 3 ACTIVE, 4 PREPARED", "0001 0002+key 0003+key 0004+key"},
	} {
		clock.Set(born.Add(step.after))
		made, err := ca.Rotate()
		if err != nil {
			t.Fatalf("%s: %v", step.attack, err)
		}
		got := []any{made, line(ca.Issuers().Status()), onDisk(t, filepath.Join(dir, pki.AuthorityDir))}
		want := []any{step.made, strings.ReplaceAll(step.states, "1 PREPARED", "1 RETIRED"), step.keys}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: made, states, keys (-want +got):\n%s", step.attack, diff)
		}
	}
}

func TestAnExpiredRootAtStartSaysWhatToDo(t *testing.T) {
	t.Parallel()
	clock := newClock()
	config := pki.Config{TrustDomain: domain, Now: clock.Now}
	_, dir := newCA(t, config)
	clock.Set(clock.Now().Add(11 * 365 * 24 * time.Hour))
	_, _, err := pki.OpenOrCreate(dir, config)
	for _, want := range []string{"the root", "expired at", "rolecall pki init", "rolecall pki root rotate prepare"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("OpenOrCreate: %v, want an error with %q", err, want)
		}
	}
	// That is enough: with a new root everything works again, also for those who have not been told to activate it.
	issuers, err := pki.OpenIssuers(filepath.Join(dir, pki.AuthorityDir), clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	next := nextRootIn(t, dir, pki.RootOptions{TrustDomain: domain, Now: clock.Now})
	if err := issuers.PrepareRoot(next.Certificate(), nil); err != nil {
		t.Fatal(err)
	}
	ca, _, err := pki.OpenOrCreate(dir, config)
	if err != nil {
		t.Fatal(err)
	}
	if by := ca.Issuers().ActBy(); by.When.After(clock.Now()) || !strings.Contains(by.Command, "rotate activate") {
		t.Errorf("ActBy: %+v, want the activation of the new root", by)
	}
	if err := ca.Issuers().ActivateRoot(); err != nil {
		t.Fatal(err)
	}
	if err := ca.Issuers().RetireRoot(); err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Rotate(); err != nil || !ca.HasRoot() || !ca.Root().Certificate().Equal(next.Certificate()) {
		t.Errorf("after the rotation: %v, want the new root at hand", err)
	}
	if _, err := os.Stat(filepath.Join(dir, pki.NextRootDir)); err == nil {
		t.Error("Rotate left the new root in root-next")
	}
}
