package up

import (
	"context"
	"crypto/x509"
	"time"

	"example.com/rolecall/internal/catalog"
	"example.com/rolecall/pki"
)

// agentPatience is how long the agent may take to renew by itself once its issuer was revoked. Who has denied the issuer's
// key in roles.yaml before that has locked it out.
const agentPatience = 30 * time.Second

// issueAgent puts a new certificate of the agent, over a new key, into its file.
func (r *run) issueAgent() error {
	_, err := r.ca.Issuers().IssueCredential(pki.Leaf{ID: catalog.ID(r.plan.td, agentName), Life: r.config.LeafTTL}, r.dir.AgentCredential())
	return err
}

// keepAgent issues the agent's certificate anew, until ctx ends, when the agent itself has not: it renews at half of life, and
// cannot once the certificate has expired, as after a night in which the machine slept, or while it starts in the future, as
// after the clock was set back. It takes what lies in its file then.
func (r *run) keepAgent(ctx context.Context) {
	tick := time.NewTicker(min(time.Minute, r.config.LeafTTL/30))
	defer tick.Stop()
	var since time.Time // when its issuer was found to be revoked
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if svid, err := pki.ReadCredential(r.dir.AgentCredential()); err == nil {
			leaf := svid.Certificates[0]
			switch {
			case !worthless(r.ca.Issuers(), svid.Certificates):
				since = time.Time{}
			case since.IsZero():
				since = time.Now()
			}
			late := !since.IsZero() && time.Since(since) > agentPatience
			if !late && !leftAlone(leaf, time.Now()) {
				continue
			}
		}
		since = time.Time{}
		if err := r.issueAgent(); err != nil {
			r.log.Error("the agent's certificate was not issued anew; the next try is soon", "error", err)
			continue
		}
		r.log.Warn("the agent had not renewed its certificate: a new one lies in its file")
	}
}

// leftAlone tells whether an agent with this certificate is not expected to renew by itself: an eighth of life is left, or
// the certificate starts in the future.
func leftAlone(leaf *x509.Certificate, now time.Time) bool {
	return now.Before(leaf.NotBefore) || leaf.NotAfter.Sub(now) <= leaf.NotAfter.Sub(pki.IssuedAt(leaf))/8
}
