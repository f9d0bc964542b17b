package agentd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"example.com/rolecall/pki"
	"example.com/rolecall/pki/agent"
)

// expiredWait is how long an agent whose certificate has expired waits between looks at its file.
const expiredWait = time.Second

// keepRenewed renews when agent.Renewal says until ctx ends, and tries again and again while that fails. A newer
// certificate that somebody put into the file is taken, which is the only way once the own one has expired.
func (c *credential) keepRenewed(ctx context.Context, signer agent.Signer, log *slog.Logger) {
	issued := pki.IssuedAt(c.leaf())
	wait := firstRetry
	reported := false
	unusable := ""
	for {
		c.renewal.Wait(ctx, c.chain(), issued)
		for retry := true; retry && ctx.Err() == nil; {
			taken, err := c.reread()
			if err != nil && err.Error() != unusable {
				unusable = err.Error()
				log.Error("what lies in the file of the agent's own certificate cannot be used", "path", c.path, "error", err)
			}
			switch {
			case taken:
				unusable = ""
				log.Info("a newer certificate of the agent was found in its file", "path", c.path, "not_after", c.leaf().NotAfter)
				issued, reported, retry = pki.IssuedAt(c.leaf()), false, false
			case !time.Now().Before(c.leaf().NotAfter):
				if !reported {
					log.Error("the agent's own certificate has expired: issue a new one into its file, as 'rolecall up' does when it starts, or join again with a ticket",
						"path", c.path, "not_after", c.leaf().NotAfter)
				}
				reported = true
				pause(ctx, expiredWait)
			default:
				issued = time.Now()
				err := c.renew(ctx, signer, log)
				if retry = err != nil; !retry {
					unusable = ""
					log.Info("the agent's own certificate was renewed", "not_after", c.leaf().NotAfter)
					wait = firstRetry
					break
				}
				if ctx.Err() == nil {
					log.Warn("the agent's own certificate could not be renewed; trying again", "not_after", c.leaf().NotAfter, "error", err)
				}
				pause(ctx, wait/2+rand.N(wait))
				wait = min(2*wait, lastRetry)
			}
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// renew has a new key signed for the same names, uses both from then on and writes them to the file. That the file cannot be
// written is reported and no error: what is needed now is in memory.
func (c *credential) renew(ctx context.Context, signer agent.Signer, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	old, _ := c.GetX509SVID()
	key, err := pki.NewKey()
	if err != nil {
		return err
	}
	csr, err := pki.NewCSR(key, old.ID, old.Certificates[0].DNSNames, old.Certificates[0].IPAddresses)
	if err != nil {
		return err
	}
	chain, err := signer.Sign(ctx, csr)
	if err != nil {
		return err
	}
	fresh, err := newSVID(chain, key)
	if err != nil {
		return fmt.Errorf("the authority's answer: %w", err)
	}
	switch leaf := fresh.Certificates[0]; {
	case fresh.ID != old.ID:
		return fmt.Errorf("the authority answered with a certificate of %s for %s", fresh.ID, old.ID)
	case !time.Now().Before(leaf.NotAfter):
		return fmt.Errorf("the authority answered with a certificate that ended at %s by the clock here: this clock or the authority's is wrong",
			leaf.NotAfter.Format(time.RFC3339))
	case c.renewal.Revoked(chain):
		return errors.New("the authority answered with a certificate of an issuer that was revoked, which it does not know yet")
	}
	c.mu.Lock()
	c.useLocked(fresh)
	c.mu.Unlock()
	if err := pki.WriteCredential(c.path, chain, key); err != nil {
		log.Error("the agent's new certificate is in use and could not be written: an agent that starts again finds the old one", "path", c.path, "error", err)
	}
	return nil
}
