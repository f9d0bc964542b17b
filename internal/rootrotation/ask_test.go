package rootrotation_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/rolecall/internal/rootrotation"
	"example.com/rolecall/pki"
)

// leftOut is about a mesh whose new root signs.
func (w *world) leftOut(t *testing.T) {
	issuers := w.ca.Issuers()
	legacy := path("/service/legacy")
	if _, err := issuers.IssueCredential(pki.Leaf{ID: legacy, Life: w.life}, w.dir.Path()+"/legacy.credential"); err != nil {
		t.Fatal(err)
	}
	found := w.until(t, "a program with files of its own is missed", func(all []rootrotation.Obstacle) bool {
		return slices.ContainsFunc(all, about(legacy.String(), "nobody can say which roots it trusts"))
	})
	for range 2 {
		if err := rootrotation.Skip(issuers, found, []string{legacy.String()}, "has the new bundle since Monday", "alice", time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	skipped := issuers.Rotation().Skipped
	if len(skipped) != 1 || skipped[0].ID != legacy.String() || skipped[0].By != "alice" || skipped[0].Reason == "" || skipped[0].At.IsZero() {
		t.Errorf("on record: %+v", skipped)
	}
	if again := w.examine(t); slices.ContainsFunc(again.Obstacles, about(legacy.String(), "")) {
		t.Errorf("left out and still in the way: %+v", again.Obstacles)
	}
}

// askedInVain is about a mesh whose new root signs.
func (w *world) askedInVain(t *testing.T) {
	issuers := w.ca.Issuers()
	for _, test := range []struct {
		name  string
		spoil func(*rootrotation.Mesh)
		want  string
	}{
		{"nobody's certificate", func(m *rootrotation.Mesh) { m.Source = nil }, "operator's certificate"},
		{"no authority", func(m *rootrotation.Mesh) { m.Authority.Target = "" }, "authority"},
		{"no service", func(m *rootrotation.Mesh) { m.Services = nil }, "not one service"},
		{"an authority that is another server", func(m *rootrotation.Mesh) { m.Authority.Target = m.Services[1].Target }, "spiffe://mesh.local/service/ledger"},
		{"an operator without the role", func(m *rootrotation.Mesh) { m.Source = w.agent }, "authority.admin"},
		{"a name that is none", func(m *rootrotation.Mesh) { m.Services[1].Target = "dns:///nowhere" }, "HOST:PORT"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := *w.mesh
			m.Services = slices.Clone(m.Services)
			test.spoil(&m)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if found, err := rootrotation.Examine(ctx, issuers, &m, time.Now()); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("found %+v, %v; want an error with %q", found, err, test.want)
			}
		})
	}
	w.silent.Store(true)
	w.mesh.Services[1].Target = "passthrough:///127.0.0.1:1"
	if found := w.until(t, "a server that is not there is missed", func([]rootrotation.Obstacle) bool { return true }); !slices.ContainsFunc(found.Obstacles, about(path("/service/ledger").String(), "does not say which roots it trusts")) {
		t.Errorf("got %+v", found.Obstacles)
	}
}
