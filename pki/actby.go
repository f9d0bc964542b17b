package pki

import (
	"crypto/x509"
	"fmt"
	"time"
)

// Spans around the end of a root, which takes its issuers and leaves with it: replacing it takes days.
const longestRootLead = 30 * 24 * time.Hour

// longestWarning is how long before it is late somebody is told at most.
const longestWarning = 48 * time.Hour

// ActBy says until when somebody has to do what this program cannot do by itself.
type ActBy struct {
	When    time.Time // zero: nobody need act; not later than now: at once
	Warn    time.Time // from here on it is worth an alarm: min(48 h, a quarter of the issuer's life) before When
	Reason  string    // what happens then
	Command string    // what to do
}

// ActBy returns until when the root has to sign the next issuer, or a new root has to be there, whichever comes first.
// Where the root is at hand the next issuer is there long before: at half of the last one's life, When moves on, and Warn is
// not reached.
func (s *Issuers) ActBy() ActBy {
	state, now := s.state.Load(), s.now()
	active := activeIssuer(state.issuers, now)
	if active == nil {
		return s.nothingSigns(state, now)
	}
	switch active.standing {
	case incoming:
		return s.actNow(fmt.Sprintf("no issuer of the old root can sign, so issuer %d of the new one does already", active.Generation),
			fmt.Sprintf("rolecall pki root rotate activate --ca %s", quote(s.dir)))
	case outgoing:
		return s.actNow(fmt.Sprintf("no issuer of the new root can sign, so issuer %d of the old one still does", active.Generation), s.issuerCommands())
	}
	newest := active
	for _, i := range state.issuers {
		if i.standing == current && i.usable(now) && i.handOver().After(newest.handOver()) {
			newest = i
		}
	}
	by := ActBy{When: newest.handOver(), Command: s.issuerCommands(),
		Reason: fmt.Sprintf("issuer %d is the last one and hands over then: certificates get shorter, and end with it at %s", newest.Generation, utc(newest.Certificate.NotAfter))}
	by.Warn = by.When.Add(-warning(newest))
	if root := s.rootEnd(newest.root, warning(newest)); root.When.Before(by.When) {
		return root
	}
	return by
}

// nothingSigns says what has to be done when no issuer can sign.
func (s *Issuers) nothingSigns(state *issuersState, now time.Time) ActBy {
	var last *x509.Certificate // the root that ends last
	for _, root := range state.bundle.X509Authorities() {
		if last == nil || root.NotAfter.After(last.NotAfter) {
			last = root
		}
	}
	if last != nil && now.Before(last.NotBefore) {
		return s.actNow(fmt.Sprintf("the root %s is valid from %s on, and the clock says %s", last.Subject, utc(last.NotBefore), utc(now)), "set the clock of this machine")
	}
	if last != nil && !now.Before(last.NotAfter) {
		return s.actNow(fmt.Sprintf("the root %s expired at %s, and everything under it; a new root is needed, and every verifier needs its bundle", last.Subject, utc(last.NotAfter)),
			fmt.Sprintf("rolecall pki init --root NEW-ROOT --trust-domain %s, then: %s --new-root NEW-ROOT", state.bundle.TrustDomain(), s.prepareCommand()))
	}
	return s.actNow(noIssuer(state.issuers, now).Error(), s.issuerCommands())
}

func (s *Issuers) prepareCommand() string {
	return "rolecall pki root rotate prepare --ca " + quote(s.dir)
}

func warning(i *Issuer) time.Duration { return min(longestWarning, i.span()/4) }

// rootEnd says until when a root has to be replaced.
func (s *Issuers) rootEnd(root *x509.Certificate, warning time.Duration) ActBy {
	lead := min(longestRootLead, root.NotAfter.Sub(root.NotBefore)/10)
	by := ActBy{When: root.NotAfter.Add(-lead), Command: s.prepareCommand(),
		Reason: fmt.Sprintf("the root %s ends at %s, and everything under it; replacing it takes days", root.Subject, utc(root.NotAfter))}
	by.Warn = by.When.Add(-warning)
	return by
}

func (s *Issuers) actNow(reason, command string) ActBy {
	now := s.now().UTC()
	return ActBy{When: now, Warn: now, Reason: reason, Command: command}
}

// issuerCommands are the steps to the next issuer with an offline root.
func (s *Issuers) issuerCommands() string {
	sign := "rolecall pki issuer sign --root ROOT --csr issuer.csr --out issuer.crt (where the root is), then: rolecall pki issuer import --ca " +
		quote(s.dir) + " issuer.crt"
	return s.requestCommand() + ", then: " + sign
}
