//go:build linux || darwin

package status_test

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/mesh"
	"example.com/rolecall/internal/rootrotation"
	"example.com/rolecall/internal/status"
	"example.com/rolecall/pki"
)

// folder is a mesh that is not up.
func folder(t *testing.T, issuerLife time.Duration) (mesh.Dir, *pki.CA) {
	t.Helper()
	dir, err := mesh.Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ca, _, err := pki.OpenOrCreate(dir.Path(), pki.Config{TrustDomain: spiffeid.RequireTrustDomainFromString("mesh.local"), IssuerLife: issuerLife})
	if err != nil {
		t.Fatal(err)
	}
	return dir, ca
}

func collectAt(t *testing.T, dir mesh.Dir, now time.Time) *status.Report {
	t.Helper()
	report, err := status.Collect(t.Context(), dir, now)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func text(report *status.Report) string {
	var out bytes.Buffer
	report.Write(cli.Plain(&out))
	return out.String()
}

func TestWithoutARootSomebodyMustActInTime(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for _, test := range []struct {
		name       string
		life       time.Duration
		calm, late time.Duration // from the issuer's making: just before, and just after the warning begins
	}{
		// 5/6 of life is the end of it, less a quarter of life or 48 hours.
		{"an issuer of 6 days: a quarter of its life before", 6 * day, 5*day - 36*time.Hour - 2*time.Minute, 5*day - 36*time.Hour + 2*time.Minute},
		{"an issuer of 60 days: 48 hours before", 60 * day, 48*day - 2*time.Minute, 48*day + 2*time.Minute},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir, _ := folder(t, test.life)
			made := time.Now()
			now := made
			issuers, err := pki.OpenIssuers(dir.Authority(), func() time.Time { return now })
			if err != nil {
				t.Fatal(err)
			}
			act := func(at time.Duration) status.Act {
				now = made.Add(at)
				return status.NewAct(issuers, dir.Authority(), now)
			}
			if got := act(test.late); got.ByHand || !got.RootAtHand {
				t.Errorf("with the root at hand: %+v", got)
			}
			if err := os.Rename(dir.Root(), filepath.Join(t.TempDir(), "root")); err != nil {
				t.Fatal(err)
			}
			if got := act(test.calm); got.Must || got.By.IsZero() || got.RootAtHand || !got.ByHand {
				t.Errorf("too early: %+v", got)
			}
			if got := act(test.late); !got.Must || !strings.Contains(got.String(now), "somebody must act by") {
				t.Errorf("in the window: %+v, %s", got, got.String(now))
			}
			report := collectAt(t, dir, now)
			n := slices.IndexFunc(report.Problems, func(p status.Problem) bool { return p.About == "issuers" })
			if n < 0 || !strings.Contains(report.Problems[n].What, "no root is at hand") || !strings.Contains(report.Problems[n].Do, "rolecall pki issuer csr") {
				t.Errorf("in the window: %+v", report.Problems)
			}
			if said := text(report); !strings.Contains(said, "not at hand") {
				t.Errorf("the text says not that no root is at hand:\n%s", said)
			}
			if got := act(test.life + day); !got.Must || !strings.Contains(got.Reason, "every issuer has expired") {
				t.Errorf("after the end: %+v", got)
			}
		})
	}
}

func TestAMeshThatIsWellSaysInOneLineWhenSomebodyMustAct(t *testing.T) {
	t.Parallel()
	dir, ca := folder(t, 0)
	now := time.Now()
	for _, atHand := range []bool{true, false} {
		act := status.NewAct(ca.Issuers(), dir.Authority(), now)
		line := act.String(now)
		if strings.Contains(line, "\n") || act.RootAtHand != atHand || strings.Contains(line, "no root is at hand") == atHand {
			t.Errorf("root at hand %v: %+v, %q", atHand, act, line)
		}
		if atHand {
			if err := os.Remove(filepath.Join(dir.Root(), "passphrase")); err != nil { // the key alone is of no use
				t.Fatal(err)
			}
		}
	}
	if line := (status.Act{}).String(now); line != "nobody needs to act" {
		t.Errorf("nothing is due: %q", line)
	}
}

func TestHowFarARootIsReplacedIsShown(t *testing.T) {
	t.Parallel()
	dir, ca := folder(t, 0)
	next, err := pki.CreateNextRoot(dir.Path(), nil, pki.RootOptions{TrustDomain: ca.Issuers().TrustDomain()})
	if err != nil {
		t.Fatal(err)
	}
	proposal, err := rootrotation.Propose(ca.Root(), next)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		take  func() error
		phase pki.Phase
		next  string
		want  string
	}{
		{func() error { return rootrotation.Prepare(ca.Issuers(), proposal) }, pki.RotationPrepared, "rolecall pki root rotate activate", "signs nothing yet"},
		{func() error { return rootrotation.Activate(ca.Issuers(), next) }, pki.RotationActivated, "rolecall pki root rotate retire", "the old one is still trusted"},
	} {
		if err := step.take(); err != nil {
			t.Fatal(err)
		}
		report := collectAt(t, dir, time.Now())
		if report.Rotation == nil || report.Rotation.Phase != step.phase || !strings.HasPrefix(report.Rotation.Next, step.next) ||
			report.Rotation.OldSHA256 == report.Rotation.NewSHA256 || !report.Act.RootAtHand {
			t.Errorf("%s: %+v, %+v", step.phase, report.Rotation, report.Act)
		}
		if said := text(report); !strings.Contains(said, step.want) {
			t.Errorf("%s: %q is missing in:\n%s", step.phase, step.want, said)
		}
		if len(about(report, "authority"))+len(about(report, "root"))+len(about(report, "issuers")) > 0 {
			t.Errorf("%s: problems %+v", step.phase, report.Problems)
		}
	}
}

func TestACertificateOfARevokedIssuerIsToBeRenewedBeforeItIsDenied(t *testing.T) {
	t.Parallel()
	r := start(t)
	// The agent of this mesh goes by its file alone, and does not renew.
	issuers, err := pki.OpenIssuers(r.dir.Authority(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if report := r.collect(t, time.Now()); report.Processes[0].Issuer != 1 {
		t.Errorf("the agent's certificate is by issuer %d, want 1", report.Processes[0].Issuer)
	}
	if _, err := issuers.Revoke(1, "test"); err != nil {
		t.Fatal(err)
	}
	report := r.collect(t, time.Now())
	if said := about(report, "agent"); !slices.ContainsFunc(said, func(s string) bool { return strings.Contains(s, "issuer 1, which was revoked") }) {
		t.Errorf("got %+v", report.Problems)
	}
	if said := text(report); !strings.Contains(said, "ISSUER") || !strings.Contains(said, "REVOKED") {
		t.Errorf("the text:\n%s", said)
	}
}
