//go:build linux || darwin

package status_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/mesh"
	"example.com/rolecall/internal/status"
	"example.com/rolecall/pki"
	"example.com/rolecall/pki/agent"
)

func (r *running) collect(t *testing.T, now time.Time) *status.Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	report, err := status.Collect(ctx, r.dir, now)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// about returns what a report says about something.
func about(r *status.Report, what string) []string {
	var said []string
	for _, p := range r.Problems {
		if p.About == what {
			said = append(said, p.What)
		}
	}
	return said
}

func TestAMeshThatIsWellNeedsNobody(t *testing.T) {
	t.Parallel()
	r := start(t)
	report := r.collect(t, time.Now())
	if !report.OK() {
		t.Errorf("problems of a mesh that is well: %+v", report.Problems)
	}
	var states []string
	for _, p := range report.Processes {
		states = append(states, p.Name+" "+p.State)
		if p.CertificateNotAfter.IsZero() || p.Serial == "" {
			t.Errorf("%s: no certificate was seen", p.Name)
		}
	}
	if want := []string{"agent ANSWERS", "authority SERVING"}; !slices.Equal(states, want) {
		t.Errorf("got processes %v, want %v", states, want)
	}
	if got := report.Processes[1].PolicyVersion; got == "" || got != report.PolicyVersion {
		t.Errorf("the authority has policy %q, roles.yaml is %q", got, report.PolicyVersion)
	}
	if len(report.Issuers) != 1 || report.Issuers[0].State != pki.Active {
		t.Errorf("got issuers %+v, want one that is active", report.Issuers)
	}
	var text bytes.Buffer
	report.Write(cli.Plain(&text))
	for _, want := range []string{"SERVING", "carol", "generation 1", "nobody needs to act"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the text has no %q:\n%s", want, text.String())
		}
	}
}

func TestJSONHasListsAndNeverNull(t *testing.T) {
	t.Parallel()
	dir, err := mesh.Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	report, err := status.Collect(t.Context(), dir, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), "null") {
		t.Errorf("null in %s", data)
	}
}

func TestAMeshThatIsDownHasToBeStarted(t *testing.T) {
	t.Parallel()
	dir, err := mesh.Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	report, err := status.Collect(t.Context(), dir, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if report.Running || len(report.Problems) != 1 || !strings.HasPrefix(report.Problems[0].Do, "rolecall up") {
		t.Errorf("got %+v, want one problem that rolecall up solves", report)
	}
}

func TestSomebodyMustAct(t *testing.T) {
	t.Parallel()
	r := start(t)
	whole := *r.file
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	carol := whole.Operators[0]
	// One after the other on one mesh: making keys that are slow to open takes longest by far.
	for _, test := range []struct {
		name  string
		spoil func(t *testing.T, f *mesh.File)
		mend  func(t *testing.T)
		later time.Duration // than now
		about string
		want  string
	}{
		{"when a key can be read by others",
			func(t *testing.T, _ *mesh.File) { must(t, os.Chmod(carol.Key, 0o644)) },
			func(t *testing.T) { must(t, os.Chmod(carol.Key, 0o600)) }, 0, "files", "others may read it"},
		{"when an operator's certificate is missing",
			func(t *testing.T, _ *mesh.File) { must(t, os.Rename(carol.Cert, carol.Cert+".away")) },
			func(t *testing.T) { must(t, os.Rename(carol.Cert+".away", carol.Cert)) }, 0, "operators", "no operator's certificate"},
		{"when a process has gone",
			func(_ *testing.T, f *mesh.File) { f.Services[0].PID = 1 << 30 }, nil, 0, "authority", "has gone"},
		{"when a server proves to be another than mesh.json says",
			func(_ *testing.T, f *mesh.File) { f.Services[0].ID = "spiffe://mesh.local/service/ledger" }, nil,
			0, "authority", "not spiffe://mesh.local/service/ledger"},
		{"when nobody listens",
			func(_ *testing.T, f *mesh.File) { f.Services[0].Address = "127.0.0.1:1" }, nil, 0, "authority", "does not answer over mutual TLS"},
		{"when nobody listens at the admin address",
			func(_ *testing.T, f *mesh.File) { f.Services[0].Admin = "127.0.0.1:1" }, nil, 0, "authority", "admin address does not answer"},
		{"when the agent does not answer",
			func(_ *testing.T, f *mesh.File) { f.Control = "unix:///nowhere/control.sock" }, nil, 0, "agent", "no agent answers"},
		{"when a program of run is not known to the agent",
			func(_ *testing.T, f *mesh.File) {
				f.Programs = []mesh.Program{{ID: "spiffe://mesh.local/service/billing", PID: os.Getpid(), Command: []string{"billing"}}}
			}, nil, 0, "spiffe://mesh.local/service/billing", "does not know process"},
		{"when certificates were not renewed in time", nil, nil, 20 * time.Hour, "carol", "was not renewed"},
		{"when the agent's certificate was not renewed in time", nil, nil, 20 * time.Hour, "agent", "was not renewed"},
		{"when the successor of an issuer is overdue", nil, nil, 5 * 24 * time.Hour, "issuers", "issuer 1 is the last one and hands over then"},
		{"when every issuer has expired", nil, nil, 8 * 24 * time.Hour, "issuers", "every issuer has expired"},
		{"when the root ends soon", nil, nil, 9*365*24*time.Hour + 30*24*time.Hour, "root", "it ends in"},
		{"when the clock is behind", nil, nil, -time.Hour, "clock", "the mesh was started at"},
		{"when whoever ran it has left mesh.json behind",
			func(t *testing.T, _ *mesh.File) { must(t, r.lock.Release()) }, nil, 0, "mesh", "has gone"},
	} {
		t.Run(test.name, func(t *testing.T) {
			spoiled := whole
			spoiled.Services = slices.Clone(whole.Services)
			if test.spoil != nil {
				test.spoil(t, &spoiled)
			}
			must(t, mesh.Write(r.dir, &spoiled))
			report := r.collect(t, time.Now().Add(test.later))
			if test.mend != nil {
				test.mend(t)
			}
			if said := about(report, test.about); !slices.ContainsFunc(said, func(s string) bool { return strings.Contains(s, test.want) }) {
				t.Errorf("got problems %+v, want one about %s with %q", report.Problems, test.about, test.want)
			}
		})
	}
}

func TestAStalePolicyIsReportedAndNoLongerOnceItIsRepaired(t *testing.T) {
	t.Parallel()
	r := start(t)
	for _, step := range []struct {
		name    string
		content string
		stale   bool
	}{
		{"broken", roles + "bindings: twice\n", true},
		{"repaired", roles + "# repaired\n", false},
	} {
		if err := mesh.WriteFile(r.dir.Roles(), []byte(step.content), 0o600); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		for report := r.collect(t, time.Now()); ; report = r.collect(t, time.Now()) {
			got := slices.ContainsFunc(about(report, "authority"), func(s string) bool { return strings.Contains(s, "is still in force") })
			if got == step.stale && (step.stale || report.OK()) {
				break
			}
			if time.Since(began) > patience {
				t.Fatalf("%s: stale = %v after %s: %+v", step.name, got, patience, report.Problems)
			}
		}
		t.Logf("%s: noticed after %s", step.name, time.Since(began).Round(time.Millisecond))
	}
}

func TestAProgramOfRunIsShownWithItsCertificate(t *testing.T) {
	t.Parallel()
	r := start(t)
	program := mesh.Program{ID: "spiffe://mesh.local/service/billing", PID: os.Getpid(), Command: []string{"billing", "--name", "\x1b]0;owned\x07"}}
	r.file.Programs = []mesh.Program{program}
	r.write(t)
	registered, err := agent.Register(t.Context(), strings.TrimPrefix(r.file.Control, "unix://"),
		agent.Registration{ID: mustID(t, program.ID), PID: program.PID})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { registered.Close(); <-registered.Gone() }()
	report := r.collect(t, time.Now())
	if !report.OK() || len(report.Programs) != 1 || report.Programs[0].CertificateNotAfter.IsZero() {
		t.Errorf("got programs %+v and problems %+v, want one program with a certificate", report.Programs, report.Problems)
	}
	var text bytes.Buffer
	report.Write(cli.Plain(&text))
	if strings.Contains(text.String(), "\x1b") || !strings.Contains(text.String(), "/service/billing") {
		t.Errorf("the text shows the program's command as it is, or not at all:\n%q", text.String())
	}
}
