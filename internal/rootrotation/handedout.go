package rootrotation

import (
	"bytes"
	"fmt"
	"slices"

	authorityv1 "example.com/rolecall/gen/authority/v1"
	"example.com/rolecall/pki"
)

// handedOut asks the report of the agent which bundle it sent to the identity.
func (f *facts) handedOut(id, agent string) (why, do string) {
	report := f.report(agent)
	if report == nil {
		return fmt.Sprintf("its agent %s has reported nothing", agent), "see whether that agent runs and reaches the authority"
	}
	sent, old := false, 0
	for _, h := range report.GetHandedOut() {
		if h.GetSpiffeId() != id {
			continue
		}
		sent = true
		if !bytes.Equal(h.GetDigest(), f.digest[:]) {
			old++
		}
	}
	switch {
	case !sent && f.rotation.Phase == pki.RotationActivated && bytes.Equal(report.GetDigest(), f.digest[:]):
		// Nobody took the certificate, or the agent has been started again since. With a certificate under the new root the
		// authority sends its bundle, and an agent hands out the two together: whoever took it has the new root.
		return "", ""
	case !sent:
		return fmt.Sprintf("its agent %s does not say which bundle it was sent", agent),
			"wait for its next report; a process that has ended is forgotten when its certificate ends"
	case old > 0:
		return fmt.Sprintf("its agent %s last sent it another bundle", agent), readsStream
	}
	return "", ""
}

// readsStream is what helps where a process was last sent another bundle.
const readsStream = "see whether the process still reads its stream of the Workload API; one that has ended is forgotten when its certificate ends"

// behind returns whoever has an open stream that was last sent another bundle, by the word of agents that still have a
// certificate. A process that reads bundles only, to verify others, has none itself and is on no record.
func (f *facts) behind() []Obstacle {
	var found []Obstacle
	for _, report := range f.reports.GetReports() {
		agent := report.GetAgentId()
		if !slices.ContainsFunc(f.reports.GetLive(), func(l *authorityv1.LiveIdentity) bool { return l.GetSpiffeId() == agent }) {
			continue
		}
		for _, h := range report.GetHandedOut() {
			if h.GetStreams() > 0 && !bytes.Equal(h.GetDigest(), f.digest[:]) {
				found = append(found, Obstacle{ID: h.GetSpiffeId(), What: fmt.Sprintf("its agent %s last sent it another bundle", agent), Do: readsStream})
			}
		}
	}
	return found
}

// report is the latest report of an agent, nil if there is none.
func (f *facts) report(agent string) *authorityv1.TrustReport {
	for _, r := range f.reports.GetReports() {
		if r.GetAgentId() == agent {
			return r
		}
	}
	return nil
}
