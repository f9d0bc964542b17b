package rootrotation

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/status"

	authorityv1 "example.com/rolecall/gen/authority/v1"
	"example.com/rolecall/pki"
)

// hints is how many refresh hints must have passed since the new root signs (since it is in the bundle, where no cross
// certificate leads to it): whoever asks for the bundle at intervals, as other trust domains do, has then had three chances.
const hints = 3

// local is the requester of what was issued with the authority's folder at hand.
const local = "local"

// facts are what was found out; what follows from them is decided without asking anybody again.
type facts struct {
	now      time.Time
	rotation pki.Rotation
	digest   [32]byte // of the bundle in the authority's folder
	own      string   // SPIFFE ID of who asks
	reports  *authorityv1.GetTrustReportsResponse
	answers  []answer
	files    map[string]error // by SPIFFE ID: whether its bundle file holds the present bundle
}

// obstacles returns everything that stands in the way, each identity's own reasons once, without those that were left out.
func (f *facts) obstacles() []Obstacle {
	if !bytes.Equal(f.reports.GetDigest(), f.digest[:]) {
		return []Obstacle{{What: "the authority has not read its folder again, and hands out another bundle",
			Do: "wait a few seconds; if this stays, look into its log, and whether it serves this folder"}}
	}
	if who := f.unrecorded(); len(who) > 0 {
		return []Obstacle{{What: "the record of certificates is not whole, and who else has one is not known: it knows nothing of " + strings.Join(who, ", "),
			Do: "see whether the authority's clock is right, and whether record/ was lost or the folder restored; then wait until the life of a leaf has passed since"}}
	}
	var found []Obstacle
	for _, a := range f.answers {
		if a.trusts && a.probed != nil && f.underOld(a.peer.ID.String()) {
			continue // of course not: that it still has such a certificate is said below
		}
		found = append(found, f.service(a)...)
	}
	for _, live := range f.reports.GetLive() {
		found = append(found, f.leaf(live)...)
	}
	found = append(found, f.behind()...)
	found = slices.DeleteFunc(found, func(o Obstacle) bool {
		return slices.ContainsFunc(f.rotation.Skipped, func(s pki.Skip) bool { return s.ID == o.ID && counts(s, f.rotation) })
	})
	return append(compact(found), f.wait()...)
}

// counts tells whether a skip is about the step that is due: one that was made before the activation was about that.
func counts(s pki.Skip, r pki.Rotation) bool {
	return !s.At.Before(r.ActivatedAt.Truncate(time.Second)) // skips count whole seconds
}

// unrecorded returns those who showed a certificate just now, the servers that answered and the operator, of whom the
// record says nothing. Whoever else only the record could name is then unknown too.
func (f *facts) unrecorded() []string {
	alive := map[string]bool{}
	for _, live := range f.reports.GetLive() {
		alive[live.GetSpiffeId()] = true
	}
	var who []string
	note := func(id string) {
		if id != "" && !alive[id] && !slices.Contains(who, id) {
			who = append(who, id)
		}
	}
	for _, a := range f.answers {
		if a.asked == nil {
			note(a.peer.ID.String())
		}
	}
	note(f.own)
	return who
}

// service holds one server's own answer against what is needed.
func (f *facts) service(a answer) []Obstacle {
	id, at := a.peer.ID.String(), strings.TrimPrefix(a.peer.Target, "passthrough:///")
	switch {
	case a.asked != nil:
		return []Obstacle{{ID: id, What: fmt.Sprintf("at %s it does not say which roots it trusts: %s", at, status.Convert(a.asked).Message()),
			Do: "start it, or find out why it does not answer; whoever asks needs the role rolecall.admin in roles.yaml"}}
	case !a.trusts:
		return []Obstacle{{ID: id, What: fmt.Sprintf("at %s it does not trust the new root yet", at),
			Do: "see whether its agent runs and reaches the authority; a service that is started again fetches the bundle anew"}}
	case a.probed != nil:
		return []Obstacle{{ID: id, What: fmt.Sprintf("at %s it knows the new root, and does not talk to somebody who has nothing else: %s", at, status.Convert(a.probed).Message()),
			Do: "it probably still shows a certificate under the old root: wait for its renewal, at half of the certificate's life"}}
	}
	return nil
}

// leaf holds the certificates of one identity, under one root and by one requester, against what is needed.
func (f *facts) leaf(live *authorityv1.LiveIdentity) []Obstacle {
	id, end := live.GetSpiffeId(), live.GetNotAfter().AsTime()
	if isTicket(id) {
		return nil // good for minutes and one certificate, which counts; the retirement makes it useless at worst
	}
	if f.outgoing(live) {
		return []Obstacle{{ID: id, Until: end,
			What: fmt.Sprintf("a certificate under the old root (SHA-256 %.12s) is alive until %s", hex.EncodeToString(live.GetRootSha256()), moment(end)),
			Do:   "wait until it has ended: certificates are renewed at half of their life, and the former one may still be shown"}}
	}
	if why, do := f.unproven(id, live.GetRequester()); why != "" {
		return []Obstacle{{ID: id, What: why, Do: do}}
	}
	return nil
}

// outgoing tells whether a certificate is under a root other than the new one, once that signs.
func (f *facts) outgoing(live *authorityv1.LiveIdentity) bool {
	return f.rotation.Phase == pki.RotationActivated && !bytes.Equal(live.GetRootSha256(), sum(f.rotation.New))
}

// underOld tells whether an identity has such a certificate.
func (f *facts) underOld(id string) bool {
	return slices.ContainsFunc(f.reports.GetLive(), func(l *authorityv1.LiveIdentity) bool { return l.GetSpiffeId() == id && f.outgoing(l) })
}

// unproven says why it is not known that an identity has the present bundle; "": it is.
func (f *facts) unproven(id, requester string) (why, do string) {
	if requester != local && requester != id && !isTicket(requester) {
		return f.handedOut(id, requester)
	}
	// It renews itself, joined, or was given files: nobody sends it a bundle that could be reported.
	if report := f.report(id); report != nil { // an agent
		if !bytes.Equal(report.GetDigest(), f.digest[:]) {
			return "it is an agent and does not hold the present bundle yet", "see whether it runs and reaches the authority"
		}
		return "", ""
	}
	if slices.ContainsFunc(f.answers, func(a answer) bool { return a.peer.ID.String() == id }) {
		return "", "" // its own answer counts, and is judged by service
	}
	if err, known := f.files[id]; known {
		if err != nil {
			return fmt.Sprintf("its bundle file is not the present one: %v", err), "give it the present bundle: rolecall pki bundle --out FILE"
		}
		return "", ""
	}
	return "nobody can say which roots it trusts: its certificate was not given out by an agent, and it was not asked",
		"give it the present bundle (rolecall pki bundle --out FILE) and leave it out, or name it with --service NAME=TARGET,SPIFFE-ID"
}

// isTicket tells whether an identity is that of a join ticket, which asks for one certificate of an agent.
func isTicket(id string) bool { return strings.HasPrefix(trimTrustDomain(id), pki.JoinPath) }

// wait is the time that must pass in any case.
func (f *facts) wait() []Obstacle {
	since, does := f.rotation.ActivatedAt, "signs"
	if f.rotation.Phase == pki.RotationPrepared { // without a cross certificate, or nobody would ask
		since, does = f.rotation.PreparedAt, "is in the bundle"
	}
	until := since.Add(hints * f.hint())
	if !f.now.Before(until) {
		return nil
	}
	return []Obstacle{{What: fmt.Sprintf("the new root %s since %s, and whoever reads the bundle at intervals has had no %d chances yet",
		does, moment(since), hints), Do: "wait until " + moment(until), Until: until}}
}

func (f *facts) hint() time.Duration {
	return time.Duration(f.reports.GetRefreshHintSeconds()) * time.Second
}

// identities counts those that have certificates.
func (f *facts) identities() int {
	seen := map[string]bool{}
	for _, live := range f.reports.GetLive() {
		seen[live.GetSpiffeId()] = true
	}
	return len(seen)
}

// compact drops an obstacle that another one says already, word for word.
func compact(all []Obstacle) []Obstacle {
	var kept []Obstacle
	for _, o := range all {
		if !slices.ContainsFunc(kept, func(k Obstacle) bool { return k.ID == o.ID && k.What == o.What }) {
			kept = append(kept, o)
		}
	}
	return kept
}

// trimTrustDomain returns the path of a SPIFFE ID.
func trimTrustDomain(id string) string {
	rest := strings.TrimPrefix(id, "spiffe://")
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		return rest[i:]
	}
	return ""
}

func moment(t time.Time) string { return t.Local().Format(time.DateTime) }
