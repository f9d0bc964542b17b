package rootrotation

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/protobuf/types/known/timestamppb"

	authorityv1 "example.com/rolecall/gen/authority/v1"
	"example.com/rolecall/pki"
)

const (
	ledgerID  = "spiffe://mesh.local/service/ledger"
	billingID = "spiffe://mesh.local/service/billing"
	agentID   = "spiffe://mesh.local/service/agent"
	gatewayID = "spiffe://mesh.local/service/gateway"
	aliceID   = "spiffe://mesh.local/operator/alice"
)

// settled are the facts of a mesh in which nothing stands in the way: an authority that renews itself, a service that was
// asked, a program that only its agent reports on, the agent, and an operator with files.
func settled() *facts {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	oldRoot, newRoot := &x509.Certificate{Raw: []byte("the old root")}, &x509.Certificate{Raw: []byte("the new root")}
	digest := sha256.Sum256([]byte("both roots"))
	live := func(id, requester string) *authorityv1.LiveIdentity {
		return &authorityv1.LiveIdentity{SpiffeId: id, Requester: requester, RootSha256: sum(newRoot), NotAfter: timestamppb.New(now.Add(time.Hour))}
	}
	handed := func(id string) *authorityv1.HandedOut {
		return &authorityv1.HandedOut{SpiffeId: id, Digest: digest[:], Streams: 1}
	}
	const authorityID = "spiffe://mesh.local/service/authority"
	return &facts{
		now: now, digest: digest,
		rotation: pki.Rotation{Phase: pki.RotationActivated, Old: oldRoot, New: newRoot, PreparedAt: now.Add(-2 * time.Hour), ActivatedAt: now.Add(-time.Hour)},
		reports: &authorityv1.GetTrustReportsResponse{Digest: digest[:], RefreshHintSeconds: 60,
			Reports: []*authorityv1.TrustReport{{AgentId: agentID, Digest: digest[:], HandedOut: []*authorityv1.HandedOut{handed(ledgerID), handed(billingID)}}},
			Live: []*authorityv1.LiveIdentity{live(authorityID, authorityID), live(ledgerID, agentID), live(billingID, agentID),
				live(agentID, agentID), live(agentID, local), live(aliceID, local), live(aliceID, aliceID)}},
		answers: []answer{{peer: peer(authorityID), trusts: true}, {peer: peer(ledgerID), trusts: true}},
		files:   map[string]error{aliceID: nil},
		own:     aliceID,
	}
}

func peer(id string) Peer {
	return Peer{Target: "passthrough:///127.0.0.1:1", ID: spiffeid.RequireFromString(id)}
}

func TestWhoStandsInTheWayOfARetirement(t *testing.T) {
	t.Parallel()
	report := func(f *facts) *authorityv1.TrustReport { return f.reports.Reports[0] }
	older := sha256.Sum256([]byte("the old root alone"))
	for _, test := range []struct {
		name  string
		spoil func(f *facts)
		who   string // "" for time
		want  string // "" for nobody
	}{
		{"nobody, when everything is proven", func(*facts) {}, "", ""},
		{"a service that has not seen the new root", func(f *facts) { f.answers[1].trusts, f.answers[1].probed = false, errors.New("bad certificate") }, ledgerID, "does not trust the new root yet"},
		{"a service that does not answer", func(f *facts) { f.answers[1].asked = errors.New("connection refused") }, ledgerID, "does not say which roots it trusts"},
		{"a service that knows the new root and refuses the probe", func(f *facts) { f.answers[1].probed = errors.New("unknown authority") }, ledgerID, "does not talk to somebody who has nothing else"},
		{"a certificate under the old root", func(f *facts) { f.reports.Live[1].RootSha256 = sum(f.rotation.Old) }, ledgerID, "a certificate under the old root"},
		{"a certificate under a root that nobody knows", func(f *facts) { f.reports.Live[1].RootSha256 = nil }, ledgerID, "a certificate under the old root"},
		{"an agent that has never reported", func(f *facts) { f.reports.Reports = nil }, billingID, "has reported nothing"},
		{"an agent that has not the bundle itself", func(f *facts) { report(f).Digest = older[:] }, agentID, "does not hold the present bundle"},
		{"a process that was last sent another bundle", func(f *facts) { report(f).HandedOut[1].Digest = older[:] }, billingID, "last sent it another bundle"},
		{"one of two processes of an identity that was last sent another bundle", func(f *facts) {
			report(f).HandedOut = append(report(f).HandedOut, &authorityv1.HandedOut{SpiffeId: billingID, Digest: older[:]})
		}, billingID, "last sent it another bundle"},
		{"nobody, when a process has never asked for its certificate under the new root", func(f *facts) { report(f).HandedOut = report(f).HandedOut[:1] }, "", ""},
		{"a process that its agent says nothing of, and has not the bundle itself", func(f *facts) {
			report(f).Digest, report(f).HandedOut = older[:], report(f).HandedOut[:1]
		}, billingID, "does not say which bundle it was sent"},
		{"a process that its agent says nothing of, before the new root signs", func(f *facts) {
			f.rotation.Phase, report(f).HandedOut = pki.RotationPrepared, report(f).HandedOut[:1]
		}, billingID, "does not say which bundle it was sent"},
		{"nobody, when an agent has just joined", func(f *facts) {
			const host2 = "spiffe://mesh.local/agent/host2"
			f.reports.Live = append(f.reports.Live, &authorityv1.LiveIdentity{SpiffeId: host2, Requester: "spiffe://mesh.local/join/host2", RootSha256: sum(f.rotation.New)})
			f.reports.Reports = append(f.reports.Reports, &authorityv1.TrustReport{AgentId: host2, Digest: f.digest[:]})
		}, "", ""},
		{"an agent that has joined and reported nothing", func(f *facts) {
			f.reports.Live = append(f.reports.Live, &authorityv1.LiveIdentity{SpiffeId: "spiffe://mesh.local/agent/host2",
				Requester: "spiffe://mesh.local/join/host2", RootSha256: sum(f.rotation.New)})
		}, "spiffe://mesh.local/agent/host2", "nobody can say which roots it trusts"},
		{"an operator whose bundle file is an older one", func(f *facts) { f.files[aliceID] = errors.New("bundle.pem is not the present bundle") }, aliceID, "its bundle file is not the present one"},
		{"files that nobody can look at", func(f *facts) { delete(f.files, aliceID) }, aliceID, "nobody can say which roots it trusts"},
		{"a service that renews itself and was not asked", func(f *facts) { f.answers = f.answers[1:] }, "spiffe://mesh.local/service/authority", "nobody can say which roots it trusts"},
		{"an authority that hands out another bundle", func(f *facts) { f.reports.Digest = older[:] }, "", "has not read its folder again"},
		{"a service of which the record knows nothing", func(f *facts) { f.reports.Live = slices.Delete(f.reports.Live, 1, 2) }, "", "knows nothing of " + ledgerID},
		{"an operator of whom the record knows nothing", func(f *facts) { f.reports.Live = f.reports.Live[:5] }, "", "knows nothing of " + aliceID},
		{"a lost record, when no agent has reported since the restart", func(f *facts) { f.reports.Live, f.reports.Reports = nil, nil }, "", "the record of certificates is not whole"},
		{"a process that only reads bundles and was last sent another", func(f *facts) {
			report(f).HandedOut = append(report(f).HandedOut, &authorityv1.HandedOut{SpiffeId: gatewayID, Digest: older[:], Streams: 1})
		}, gatewayID, "last sent it another bundle"},
		{"nobody, when a process that only reads bundles has closed its stream", func(f *facts) {
			report(f).HandedOut = append(report(f).HandedOut, &authorityv1.HandedOut{SpiffeId: gatewayID, Digest: older[:]})
		}, "", ""},
		{"nobody, when such a process was a dead agent's", func(f *facts) {
			f.reports.Reports = append(f.reports.Reports, &authorityv1.TrustReport{AgentId: "spiffe://mesh.local/agent/gone", Digest: older[:],
				HandedOut: []*authorityv1.HandedOut{{SpiffeId: gatewayID, Digest: older[:], Streams: 1}}})
		}, "", ""},
		{"time, before the new root signs and nothing leads to it", func(f *facts) {
			f.rotation.Phase, f.rotation.PreparedAt = pki.RotationPrepared, f.now.Add(-time.Second)
		}, "", "is in the bundle since"},
		{"time, until three refresh hints have passed", func(f *facts) { f.now = f.rotation.ActivatedAt.Add(3*time.Minute - time.Second) }, "", "no 3 chances yet"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := settled()
			test.spoil(f)
			got := f.obstacles()
			if test.want == "" {
				if len(got) > 0 {
					t.Errorf("got %v, want nobody", got)
				}
				return
			}
			if !slices.ContainsFunc(got, func(o Obstacle) bool { return o.ID == test.who && strings.Contains(o.What, test.want) && o.Do != "" }) {
				t.Errorf("got %+v, want %q about %q and what to do", got, test.want, test.who)
			}
			if test.who == "" {
				return
			}
			f.rotation.Skipped = []pki.Skip{{ID: test.who, At: f.now}}
			if left := f.obstacles(); slices.ContainsFunc(left, func(o Obstacle) bool { return o.ID == test.who }) {
				t.Errorf("left out and still in the way: %+v", left)
			}
		})
	}
}

func TestTimeAndTheAuthorityCannotBeLeftOut(t *testing.T) {
	t.Parallel()
	f := settled()
	f.now = f.rotation.ActivatedAt
	f.rotation.Skipped = []pki.Skip{{ID: "", At: f.now}}
	if len(f.obstacles()) == 0 {
		t.Error("a skip without an ID has skipped the waiting time")
	}
}

func TestWhoeverWasLeftOutBeforeTheActivationIsAskedAboutAgain(t *testing.T) {
	t.Parallel()
	f := settled()
	f.answers[1].trusts = false
	f.rotation.Skipped = []pki.Skip{{ID: ledgerID, Reason: "is being restarted", At: f.rotation.ActivatedAt.Add(-time.Minute)}}
	if got := f.obstacles(); len(got) != 1 || got[0].ID != ledgerID {
		t.Errorf("left out of the activation: got %+v, want the ledger", got)
	}
	f.rotation.Skipped[0].At = f.rotation.ActivatedAt.Round(time.Second)
	if got := f.obstacles(); len(got) != 0 {
		t.Errorf("left out of the retirement: got %+v", got)
	}
}

func TestNobodyWaitsForATicket(t *testing.T) {
	t.Parallel()
	f := settled()
	ticket := &authorityv1.LiveIdentity{SpiffeId: "spiffe://mesh.local/join/host2", Requester: local, RootSha256: sum(f.rotation.New), NotAfter: timestamppb.New(f.now)}
	f.reports.Live = append(f.reports.Live, ticket)
	if got := f.obstacles(); len(got) > 0 {
		t.Errorf("got %+v", got)
	}
	ticket.RootSha256 = sum(f.rotation.Old)
	if got := f.obstacles(); len(got) > 0 {
		t.Errorf("a ticket under the old root: got %+v", got)
	}
}

func TestBeforeTheActivationTheOldRootsCertificatesAreNobodysFault(t *testing.T) {
	t.Parallel()
	f := settled()
	f.rotation.Phase, f.rotation.ActivatedAt = pki.RotationPrepared, time.Time{}
	for _, live := range f.reports.Live {
		live.RootSha256 = sum(f.rotation.Old)
	}
	if got := f.obstacles(); len(got) > 0 {
		t.Errorf("got %+v", got)
	}
	f.answers[1].trusts = false
	if got := f.obstacles(); len(got) != 1 || got[0].ID != ledgerID {
		t.Errorf("got %+v, want the ledger, which does not know the new root", got)
	}
}

func TestARefusalNamesEverybodyWithWhatHelps(t *testing.T) {
	t.Parallel()
	err := &UnsafeError{Step: "retire", Obstacles: []Obstacle{{ID: ledgerID, What: "it sleeps", Do: "wake it"}, {What: "too early", Do: "wait"}}}
	for _, want := range []string{"retire is not safe yet", ledgerID + ": it sleeps", "wake it", "time: too early", "--without"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in:\n%v", want, err)
		}
	}
}
