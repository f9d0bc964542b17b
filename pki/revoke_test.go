package pki_test

import (
	"crypto/sha256"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/rolecall/pki"
)

// withNext is a copy of the shared authority with a second issuer, PREPARED.
func withNext(t *testing.T) (*pki.Issuers, string) {
	t.Helper()
	ca, _ := sharedCA(t)
	dir := copyOfAuthority(t)
	issuers, err := pki.OpenIssuers(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := issuers.ImportIssuer(signCSR(t, ca.Root(), pendingCSR(t, issuers))); err != nil {
		t.Fatal(err)
	}
	if got, want := line(issuers.Status()), "1 ACTIVE, 2 PREPARED"; got != want {
		t.Fatalf("issuers: %s, want %s", got, want)
	}
	return issuers, dir
}

func TestAPreparedIssuerSignsBeforeItsTurnWhenSomebodySaysSo(t *testing.T) {
	t.Parallel()
	issuers, dir := withNext(t)
	other, err := pki.OpenIssuers(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if status, err := issuers.Activate(2); err != nil || status.State != pki.Active || time.Since(status.ActiveFrom) > time.Minute {
			t.Errorf("Activate(2): %+v, error %v", status, err)
		}
	}
	if err := other.Refresh(); err != nil {
		t.Fatal(err)
	}
	leaf := leafFor(t, "/service/ledger")
	chain := issue(t, other, leaf)
	if got, want := line(other.Status()), "1 RETIRING, 2 ACTIVE"; got != want || !strings.HasPrefix(chain[1].Subject.CommonName, "issuer 2 ") {
		t.Errorf("another process: %s, signed by %s; want %s", got, chain[1].Subject, want)
	}
	if chain[0].NotAfter.After(chain[1].NotAfter) {
		t.Errorf("a leaf until %s outlives its issuer, which ends at %s", chain[0].NotAfter, chain[1].NotAfter)
	}
	for generation, want := range map[int]string{1: "has handed over", 7: "there is no issuer 7; there are [1 2]", 0: "there is no issuer 0"} {
		if _, err := issuers.Activate(generation); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Activate(%d): %v, want a refusal with %q", generation, err, want)
		}
	}
}

func TestARevokedIssuerNeverSignsAgain(t *testing.T) {
	t.Parallel()
	issuers, dir := withNext(t)
	before := filesOf(t, dir)
	for _, reason := range []string{"key seen in a backup", "another reason"} {
		if status, err := issuers.Revoke(1, reason); err != nil || status.State != pki.Revoked {
			t.Errorf("Revoke(1): %+v, error %v", status, err)
		}
	}
	cert := issuers.Status()[0].Certificate
	want := []pki.Revocation{{Generation: 1, Certificate: cert, KeySHA256: sha256.Sum256(cert.RawSubjectPublicKeyInfo), Reason: "key seen in a backup"}}
	got := issuers.Revoked()
	if len(got) == 1 {
		if time.Since(got[0].At) > time.Minute {
			t.Errorf("revoked at %s", got[0].At)
		}
		got[0].At = time.Time{}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Revoked (-want +got):\n%s", diff)
	}
	if disk := onDisk(t, dir); disk != "0001 0002+key" {
		t.Errorf("on disk: %s, want the key deleted", disk)
	}
	if got, want := line(issuers.Status()), "1 REVOKED, 2 ACTIVE"; got != want {
		t.Errorf("issuers: %s, want %s", got, want)
	}
	if _, err := issuers.Activate(1); err == nil || !strings.Contains(err.Error(), "for good") {
		t.Errorf("Activate of a revoked issuer: %v", err)
	}

	// Its key comes back from a backup, or a crash came before it was deleted: nobody opens it, and the next who tidies up
	// deletes it again.
	if err := os.WriteFile(filepath.Join(dir, "issuers", "0001.pem"), []byte(before["issuers/0001.pem"]), 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := pki.OpenIssuers(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := line(again.Status()), "1 REVOKED, 2 ACTIVE"; got != want {
		t.Errorf("with the key back: %s, want %s", got, want)
	}
	if err := again.Retire(); err != nil {
		t.Fatal(err)
	}
	if disk := onDisk(t, dir); disk != "0001 0002+key" {
		t.Errorf("on disk: %s, want the key deleted again", disk)
	}
}

func TestTheOnlyIssuerCanBeRevokedAndThenSomebodyHasToAct(t *testing.T) {
	t.Parallel()
	ca, _ := sharedCA(t)
	dir := copyOfAuthority(t)
	issuers, err := pki.OpenIssuers(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if by := issuers.ActBy(); by.When.Before(time.Now().Add(5*24*time.Hour)) || by.When.Sub(by.Warn).Round(time.Minute) != 42*time.Hour {
		t.Errorf("before: act by %s, warn %s before; want 5/6 of a week from now, and a quarter of it", by.When, by.When.Sub(by.Warn))
	}
	sequence := issuers.Sequence()
	if _, err := issuers.Revoke(1, "stolen"); err != nil {
		t.Fatal(err)
	}
	if issuers.Sequence() <= sequence {
		t.Error("the bundle has the same number, so agents would not learn of it")
	}
	if _, err := issuers.Issue(leafFor(t, "/service/ledger")); err == nil || !strings.Contains(err.Error(), "was revoked") {
		t.Errorf("Issue: %v", err)
	}
	by := issuers.ActBy()
	if by.When.After(time.Now()) || !strings.Contains(by.Reason, "was revoked") || !strings.Contains(by.Command, "rolecall pki issuer csr --ca "+dir) {
		t.Errorf("ActBy: %+v, want at once, with the commands", by)
	}
	status, err := issuers.ImportIssuer(signCSR(t, ca.Root(), pendingCSR(t, issuers)))
	if err != nil || status.State != pki.Active || status.Generation != 2 {
		t.Errorf("the next one: %+v, error %v", status, err)
	}
}

func TestAttacksOnARevocation(t *testing.T) {
	t.Parallel()
	clock := newClock()
	clock.Set(time.Now())
	dir := copyOfAuthority(t)
	issuers, err := pki.OpenIssuers(dir, clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		attack     string
		generation int
		reason     string
		want       string
	}{
		{"an issuer that is not there", 7, "stolen", "there is no issuer 7"},
		{"no reason", 1, "", "a reason is needed"},
		{"a reason that forges a line of the log", 1, "x\nlevel=INFO msg=ok", "control character"},
		{"a reason of 501 bytes", 1, strings.Repeat("x", 501), "at most 500"},
	} {
		if _, err := issuers.Revoke(c.generation, c.reason); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want a refusal with %q", c.attack, err, c.want)
		}
	}
	clock.Set(time.Now().Add(8 * 24 * time.Hour))
	if _, err := issuers.Revoke(1, "stolen"); err == nil || !strings.Contains(err.Error(), "nothing is left to revoke") {
		t.Errorf("an issuer that expired: %v", err)
	}
	if _, err := issuers.Activate(1); err == nil || !strings.Contains(err.Error(), "pki issuer csr") {
		t.Errorf("Activate of an issuer that expired: %v", err)
	}
}

func TestSeveralProcessesChangeOneDirectoryAtOnce(t *testing.T) {
	t.Parallel()
	clock := newClock()
	born := clock.Now()
	config := pki.Config{TrustDomain: domain, IssuerLife: time.Hour, LeafLife: 10 * time.Minute, Now: clock.Now}
	_, dir := newCA(t, config)
	clock.Set(born.Add(40 * time.Minute)) // the next issuer is due
	var running sync.WaitGroup
	for range 2 {
		running.Go(func() { // `rolecall up`, started twice
			ca, _, err := pki.OpenOrCreate(dir, config)
			if err == nil {
				_, err = ca.Rotate()
			}
			if err != nil {
				t.Error(err)
			}
		})
		running.Go(func() { // the command line meanwhile
			issuers, err := pki.OpenIssuers(filepath.Join(dir, pki.AuthorityDir), clock.Now)
			if err == nil {
				_, err = issuers.Activate(1)
			}
			if err == nil {
				err = issuers.BumpSequence()
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	running.Wait()
	issuers, err := pki.OpenIssuers(filepath.Join(dir, pki.AuthorityDir), clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := line(issuers.Status()), "1 ACTIVE, 2 PREPARED"; got != want {
		t.Errorf("issuers: %s, want %s: one was due, and one was made", got, want)
	}
	if got, want := issuers.Sequence(), uint64(born.Unix())+2; got < want {
		t.Errorf("sequence %d, want %d at least: a change was lost", got, want)
	}
}

func TestStatusAsJSON(t *testing.T) {
	t.Parallel()
	ca, _ := sharedCA(t)
	status := ca.Issuers().Status()[0]
	data, err := json.Marshal(status)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if got["key_sha256"] != status.KeySHA256.String() || len(status.KeySHA256.String()) != 64 || len(got["root_sha256"].(string)) != 64 {
		t.Errorf("%s: want both digests in hexadecimal", data)
	}
	var digest pki.Digest
	if err := digest.UnmarshalText([]byte(status.KeySHA256.String())); err != nil || digest != status.KeySHA256 {
		t.Errorf("read back %s (%v), want %s", digest, err, status.KeySHA256)
	}
	if err := digest.UnmarshalText([]byte(strings.Repeat("zz", 32))); err == nil {
		t.Error("a digest that is not hexadecimal is accepted")
	}
}
