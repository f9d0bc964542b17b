package up

import (
	"context"
	"time"

	"example.com/rolecall/internal/catalog"
	"example.com/rolecall/pki"
)

// issueAgent puts a new certificate of the agent, over a new key, into its file.
func (r *run) issueAgent() error {
	_, err := r.ca.Issuers().IssueCredential(pki.Leaf{ID: catalog.ID(r.plan.td, agentName), Life: r.config.LeafTTL}, r.dir.AgentCredential())
	return err
}

// keepAgent issues the agent's certificate anew, until ctx ends, when the agent itself has not: it renews at half of life, and
// cannot once the certificate has expired, as after a night in which the machine slept. It takes what lies in its file then.
func (r *run) keepAgent(ctx context.Context) {
	tick := time.NewTicker(min(time.Minute, r.config.LeafTTL/30))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if svid, err := pki.ReadCredential(r.dir.AgentCredential()); err == nil {
			leaf := svid.Certificates[0]
			if time.Until(leaf.NotAfter) > leaf.NotAfter.Sub(pki.IssuedAt(leaf))/8 {
				continue
			}
		}
		if err := r.issueAgent(); err != nil {
			r.log.Error("the agent's certificate was not issued anew; the next try is soon", "error", err)
			continue
		}
		r.log.Warn("the agent had not renewed its certificate: a new one lies in its file")
	}
}
