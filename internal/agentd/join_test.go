//go:build linux || darwin

package agentd

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	authorityv1 "example.com/rolecall/gen/authority/v1"
	"example.com/rolecall/pki"
	"example.com/rolecall/rolecalltest"
)

// ticket writes a ticket of the fake authority and returns how to join with it in a folder of its own.
func ticket(t *testing.T, f *fakeAuthority, path string, changes ...func(*x509.Certificate)) JoinConfig {
	t.Helper()
	dir := t.TempDir()
	c := JoinConfig{TrustDomain: f.ca.TrustDomain(), Ticket: filepath.Join(dir, "ticket.pem"), Authority: f.target,
		AuthorityID: f.ca.ID("/service/authority"), Credential: filepath.Join(dir, "agent.pem"), Bundle: filepath.Join(dir, "bundle.pem"),
		Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	leaf, key := f.ca.IssueUnder(f.issuer, f.key, path, changes...)
	if err := pki.WriteTicket(c.Ticket, []*x509.Certificate{leaf, f.issuer}, key, f.ca.Bundle()); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestATicketBecomesTheCredentialOfAnAgentThatThenRuns(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	j := ticket(t, f, "/join/host1")
	if joined, err := Join(t.Context(), j); !joined || err != nil {
		t.Fatalf("Join: %v, %v", joined, err)
	}
	own, err := pki.ReadCredential(j.Credential)
	if err != nil || own.ID != f.ca.ID("/agent/host1") {
		t.Fatalf("the credential is of %v (error %v)", own, err)
	}
	carried, _, err := pki.ReadTicket(j.Ticket)
	if err != nil || carried.PrivateKey.(*ecdsa.PrivateKey).Equal(own.PrivateKey) {
		t.Errorf("the agent has the key of the ticket (error %v), want one that was never carried about", err)
	}
	if _, err := os.Stat(j.Credential + ".joining"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the key that waited is still there (error %v)", err)
	}
	c := f.config(t)
	c.Credential, c.Bundle = j.Credential, j.Bundle
	run(t, c)
	register(t, c, "/service/ledger")
	before, err := os.ReadFile(j.Credential)
	if err != nil {
		t.Fatal(err)
	}
	if joined, err := Join(t.Context(), j); joined || err != nil {
		t.Errorf("with a usable credential: %v, %v; want that nothing is done", joined, err)
	}
	if after, err := os.ReadFile(j.Credential); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the credential was changed (error %v)", err)
	}
	if err := os.Remove(j.Ticket); err != nil {
		t.Fatal(err)
	}
	if joined, err := Join(t.Context(), j); joined || err != nil {
		t.Errorf("with a usable credential and no ticket: %v, %v; want that nothing is done", joined, err)
	}
}

func TestAttackATicketThatWasUsed(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	j := ticket(t, f, "/join/host1")
	if _, err := Join(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	j.Credential = filepath.Join(t.TempDir(), "thief.pem")
	joined, err := Join(t.Context(), j)
	if joined || err == nil || !strings.Contains(err.Error(), "rolecall pki ticket host1") || !strings.Contains(err.Error(), "good once") {
		t.Errorf("the ticket again: %v, %v; want an error with the next step", joined, err)
	}
	if _, err := os.Stat(j.Credential); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a credential was written (error %v)", err)
	}
}

func TestAnAnswerThatWasLostIsHadByJoiningAgain(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	j := ticket(t, f, "/join/host1")
	key, err := joiningKey(j.Credential + ".joining")
	if err != nil {
		t.Fatal(err)
	}
	svid, roots, err := pki.ReadTicket(j.Ticket)
	if err != nil {
		t.Fatal(err)
	}
	// The first try reached the authority, and its answer was not written.
	if _, _, err := redeem(t.Context(), j, ticketSource{svid, roots}, f.ca.ID("/agent/host1"), key); err != nil {
		t.Fatal(err)
	}
	if joined, err := Join(t.Context(), j); !joined || err != nil {
		t.Errorf("the second try: %v, %v", joined, err)
	}
}

func TestJoiningThatCannotBeSaysWhy(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	for _, c := range []struct {
		name, path, want string
		change           func(*x509.Certificate)
		config           func(*JoinConfig)
	}{
		{name: "an expired ticket", path: "/join/host1", want: "rolecall pki ticket host1",
			change: func(c *x509.Certificate) {
				c.NotBefore, c.NotAfter = time.Now().Add(-10*time.Second), time.Now().Add(-2*time.Second)
			}},
		{name: "another trust domain", path: "/join/host1", want: "not of evil.local",
			config: func(j *JoinConfig) { j.TrustDomain = spiffeid.RequireTrustDomainFromString("evil.local") }},
		{name: "an authority of another trust domain", path: "/join/host1", want: "is not",
			config: func(j *JoinConfig) { j.AuthorityID = spiffeid.RequireFromString("spiffe://evil.local/x") }},
		{name: "no ticket", path: "/join/host1", want: "no such file", config: func(j *JoinConfig) { j.Ticket += "x" }},
		{name: "a ticket that others may read", path: "/join/host1", want: "chmod 600",
			config: func(j *JoinConfig) { _ = os.Chmod(j.Ticket, 0o644) }},
		{name: "a credential that is none", path: "/join/host1", want: "remove it",
			config: func(j *JoinConfig) { _ = os.WriteFile(j.Credential, []byte("x"), 0o600) }},
		{name: "a server that is not the authority", path: "/join/host1", want: "not used up",
			config: func(j *JoinConfig) { j.AuthorityID = f.ca.ID("/service/other") }},
	} {
		if c.change == nil {
			c.change = func(*x509.Certificate) {}
		}
		j := ticket(t, f, c.path, c.change)
		if c.config != nil {
			c.config(&j)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		joined, err := Join(ctx, j)
		cancel()
		if joined || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v; want an error with %q", c.name, joined, err, c.want)
		}
	}
}

func TestAttackAnAnswerToATicketThatIsOfNoUse(t *testing.T) {
	t.Parallel()
	evil := rolecalltest.NewCA(t, "mesh.local")
	evilIssuer, evilKey := evil.Intermediate()
	for name, c := range map[string]struct {
		change func(*testing.T, *fakeAuthority, *ecdsa.PrivateKey, *authorityv1.JoinResponse)
		want   string
	}{
		"a chain under another root": {func(t *testing.T, _ *fakeAuthority, key *ecdsa.PrivateKey, r *authorityv1.JoinResponse) {
			r.Chain = certify(t, evil, evilIssuer, evilKey, "/agent/host1", key)
		}, "of no use"},
		"the certificate of another agent": {func(t *testing.T, f *fakeAuthority, key *ecdsa.PrivateKey, r *authorityv1.JoinResponse) {
			r.Chain = certify(t, f.ca, f.issuer, f.key, "/agent/host2", key)
		}, "a certificate of spiffe://mesh.local/agent/host2"},
		"an expired certificate": {func(t *testing.T, f *fakeAuthority, key *ecdsa.PrivateKey, r *authorityv1.JoinResponse) {
			r.Chain = certify(t, f.ca, f.issuer, f.key, "/agent/host1", key, expired)
		}, "of no use"},
		"a certificate over another key": {func(t *testing.T, f *fakeAuthority, _ *ecdsa.PrivateKey, r *authorityv1.JoinResponse) {
			r.Chain = certify(t, f.ca, f.issuer, f.key, "/agent/host1", evilKey)
		}, "chain of the authority"},
		"roots of another trust domain": {func(t *testing.T, f *fakeAuthority, _ *ecdsa.PrivateKey, r *authorityv1.JoinResponse) {
			r.Bundle = f.bundleOf(t, 11, rolecalltest.NewCA(t, "evil.local").Bundle())
		}, "roots of evil.local"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := startFake(t)
			j := ticket(t, f, "/join/host1")
			key, err := joiningKey(j.Credential + ".joining")
			if err != nil {
				t.Fatal(err)
			}
			f.change = func(r *authorityv1.JoinResponse) { c.change(t, f, key.(*ecdsa.PrivateKey), r) }
			if joined, err := Join(t.Context(), j); joined || err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, %v; want an error with %q", joined, err, c.want)
			}
			for _, path := range []string{j.Credential, j.Bundle} {
				if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("%s was written (error %v)", path, err)
				}
			}
		})
	}
}

// certify returns a chain for the key.
func certify(t *testing.T, ca *rolecalltest.CA, issuer *x509.Certificate, issuerKey crypto.Signer, path string, key crypto.Signer, changes ...func(*x509.Certificate)) [][]byte {
	t.Helper()
	leaf, _ := ca.IssueUnder(issuer, issuerKey, path, changes...)
	der, err := x509.CreateCertificate(rand.Reader, leaf, issuer, key.Public(), issuerKey)
	if err != nil {
		t.Fatal(err)
	}
	return [][]byte{der, issuer.Raw}
}

// The process ended between writing the certificate and removing the file of the key.
func TestAKeyThatNoLongerWaitsIsRemovedAtTheNextStart(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	j := ticket(t, f, "/join/host1")
	if _, err := Join(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	own, err := pki.ReadCredential(j.Credential)
	if err != nil {
		t.Fatal(err)
	}
	if err := pki.WriteCredential(j.Credential+".joining", nil, own.PrivateKey); err != nil {
		t.Fatal(err)
	}
	if joined, err := Join(t.Context(), j); joined || err != nil {
		t.Errorf("Join: %v, %v; want that nothing is done", joined, err)
	}
	if _, err := os.Stat(j.Credential + ".joining"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the key is still there (error %v): the next ticket would be redeemed with it", err)
	}
}

func TestAttackKeysInTheLogOfAnAgentThatJoinsAndRuns(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	log := &used{}
	j := ticket(t, f, "/join/host1")
	j.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug - 4}))
	if _, err := Join(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	c := f.config(t)
	c.Credential, c.Bundle, c.Log = j.Credential, j.Bundle, j.Log
	stop := run(t, c)
	register(t, c, "/service/ledger")
	eventually(t, "a certificate", func() bool { return log.logged("certificate renewed") > 0 })
	stop()
	secrets := 0
	for _, path := range []string{j.Ticket, j.Credential} {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, key, _ := strings.Cut(string(data), "-----BEGIN PRIVATE KEY-----")
		for _, line := range strings.Split(key, "\n")[1:] {
			if strings.HasPrefix(line, "-----END") {
				break
			}
			secrets++
			if log.logged(line) > 0 {
				t.Errorf("a line of the key in %s is in the log", path)
			}
		}
	}
	if secrets < 6 {
		t.Errorf("%d lines of keys were looked for, want those of two keys", secrets)
	}
}
