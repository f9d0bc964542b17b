//go:build linux || darwin

package agentd

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/rolecall/pki"
	"example.com/rolecall/rolecalltest"
)

// ahead is a certificate that was issued while the clock was two days ahead.
func ahead(c *x509.Certificate) {
	c.NotBefore, c.NotAfter = time.Now().Add(47*time.Hour), time.Now().Add(71*time.Hour)
}

func expired(c *x509.Certificate) {
	c.NotBefore, c.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
}

// aheadSigner signs while the clock is two days ahead.
type aheadSigner struct{ signer }

func (s aheadSigner) Sign(_ context.Context, csr []byte) ([]*x509.Certificate, error) {
	return s.sign(csr, ahead)
}

func TestAttackAClockThatWasAheadWhenTheAgentRenewed(t *testing.T) {
	t.Parallel()
	c, s := agentCredential(t)
	good, _ := c.GetX509SVID()
	for n := range 2 { // the second time because the first starts in the future
		if err := c.renew(t.Context(), aheadSigner{s}, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		if shown, _ := c.GetX509SVID(); shown != good {
			t.Fatalf("after renewal %d the agent shows a certificate that starts at %s, want the one that is good", n+1, shown.Certificates[0].NotBefore)
		}
	}
	if err := c.renew(t.Context(), s, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	if shown, _ := c.GetX509SVID(); shown == good || !validAt(shown.Certificates[0], time.Now()) {
		t.Error("the certificate that came with the right clock is not the one that is shown")
	}
	if err := c.renew(t.Context(), aheadSigner{s}, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	former, _ := c.GetX509SVID()
	c.renewal.SetRevoked(map[[32]byte]struct{}{sha256.Sum256(former.Certificates[1].RawSubjectPublicKeyInfo): {}})
	if shown, _ := c.GetX509SVID(); shown == former {
		t.Error("a former certificate whose issuer was revoked is shown")
	}
}

func TestACertificateThatIsGoodNowReplacesOneThatStartsInTheFuture(t *testing.T) {
	t.Parallel()
	c, s := agentCredential(t)
	put := func(changes ...func(*x509.Certificate)) {
		t.Helper()
		issuer, issuerKey := s.ca.Intermediate()
		leaf, key := s.ca.IssueUnder(issuer, issuerKey, s.id.Path(), changes...)
		if err := pki.WriteCredential(c.path, []*x509.Certificate{leaf, issuer}, key); err != nil {
			t.Fatal(err)
		}
	}
	put(ahead)
	c, err := openCredential(c.path) // as after a restart: the file is all that there is
	if err != nil {
		t.Fatal(err)
	}
	put()
	if taken, err := c.reread(); !taken || err != nil || !validAt(c.leaf(), time.Now()) {
		t.Errorf("a good one that ends earlier: taken %v (error %v)", taken, err)
	}
	put(func(x *x509.Certificate) { x.NotAfter = time.Now().Add(time.Minute) })
	if taken, err := c.reread(); taken || err != nil {
		t.Errorf("one that ends earlier than a good one: taken %v (error %v)", taken, err)
	}
	put(expired)
	if taken, err := c.reread(); taken || err != nil {
		t.Errorf("an expired one: taken %v (error %v)", taken, err)
	}
}

// The root was replaced while the machine was off; an operator puts a new certificate and the present bundle there.
func TestAnAgentWhoseRootHasGoneGoesOnWithNewFilesInEitherOrder(t *testing.T) {
	t.Parallel()
	for name, bundleFirst := range map[string]bool{"the bundle first": true, "the certificate first": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := startFake(t)
			c := f.config(t)
			log := &used{}
			c.Log = slog.New(slog.NewTextHandler(log, nil))
			bundle, certificate := read(t, c.Bundle), read(t, c.Credential)
			old := rolecalltest.NewCA(t, "mesh.local")
			issuer, issuerKey := old.Intermediate()
			leaf, key := old.IssueUnder(issuer, issuerKey, "/agent/host1", expired)
			if err := errors.Join(pki.WriteCredential(c.Credential, []*x509.Certificate{leaf, issuer}, key), pki.WriteBundle(c.Bundle, old.Bundle())); err != nil {
				t.Fatal(err)
			}
			run(t, c)
			if bundleFirst {
				put(t, c.Bundle, bundle)
				put(t, c.Credential, certificate)
			} else {
				put(t, c.Credential, certificate)
				eventually(t, "the log says what is to be done", func() bool { return log.logged("put the present bundle into its file") > 0 })
				put(t, c.Bundle, bundle)
			}
			eventually(t, "the authority is reached", func() bool {
				f.mu.Lock()
				defer f.mu.Unlock()
				return f.watches > 0
			})
			if got := read(t, c.Bundle); !strings.Contains(string(got), "BEGIN CERTIFICATE") {
				t.Errorf("the bundle file holds %q", got)
			}
		})
	}
}

// Roots that were taken back stay away although the file still has them, since it could not be written, and the agent's own
// certificate is under them.
func TestAttackRootsThatWereTakenBackInAFileThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	k := keeper(t, f)
	leaf, _ := f.ca.IssueUnder(f.issuer, f.key, "/agent/host1")
	next := rolecalltest.NewCA(t, "mesh.local").Bundle()
	stale := read(t, k.path)
	k.foreign = true // is never written
	if err := k.take(f.bundleOf(t, 20, next)); err != nil {
		t.Fatal(err)
	}
	k.reread([]*x509.Certificate{leaf, f.issuer})
	if !k.bundle().Equal(next) {
		t.Error("the roots that were taken back are in force again")
	}
	put(t, k.path, stale)
	if k.reread([]*x509.Certificate{leaf, f.issuer}); !k.bundle().Equal(next) {
		t.Error("the same file, written again, brings them back")
	}
}

func TestAFileThatCannotBeUsedInPlaceOfAnExpiredCertificateIsReported(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, s := agentCredential(t)
		issuer, issuerKey := s.ca.Intermediate()
		fresh := read(t, c.path)
		write := func(path string, changes ...func(*x509.Certificate)) {
			t.Helper()
			leaf, key := s.ca.IssueUnder(issuer, issuerKey, path, changes...)
			if err := errors.Join(os.RemoveAll(c.path), pki.WriteCredential(c.path, []*x509.Certificate{leaf, issuer}, key)); err != nil {
				t.Fatal(err)
			}
		}
		write("/service/agent", expired)
		c, err := openCredential(c.path)
		if err != nil {
			t.Fatal(err)
		}
		log := &used{}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.keepRenewed(ctx, s, slog.New(slog.NewTextHandler(log, nil)))
		}()
		// The file is looked at ten times before it is another one.
		says := func(want string, lines int) {
			t.Helper()
			time.Sleep(10 * expiredWait)
			if log.logged(want) != 1 || log.logged("cannot be used") != lines {
				t.Errorf("the log does not say %q once, or has not %d lines about the file:\n%s", want, lines, log.log.String())
			}
		}
		time.Sleep(expiredWait / 2) // so that the file changes between two looks
		says("has expired", 0)
		put(t, c.path, fresh)
		if err := os.Chmod(c.path, 0o644); err != nil {
			t.Fatal(err)
		}
		says("chmod 600", 1)
		write("/service/other")
		says("it is for spiffe://mesh.local/service/other", 2)
		put(t, c.path, fresh)
		says("was found in its file", 2)
		cancel()
		<-done
	})
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// put replaces a file in one step, with mode 0600.
func put(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := errors.Join(os.WriteFile(path+".new", data, 0o600), os.Rename(path+".new", path)); err != nil {
		t.Fatal(err)
	}
}
