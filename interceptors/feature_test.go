package interceptors_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/rolecalltest"
)

// fakeFeature counts how often it is started and closed.
type fakeFeature struct {
	annotation      string
	fails           error // to start
	started, closed atomic.Int64
}

func (f *fakeFeature) Annotations() []string { return []string{f.annotation} }

func (f *fakeFeature) Start(env feature.Env) (feature.Running, error) {
	f.started.Add(1)
	if env.TrustDomain.Name() != "mesh.local" || env.Source == nil || env.NewClient == nil || env.DeniedKey == nil || env.Now == nil || env.Log == nil || env.Meters == nil {
		return nil, errors.New("something is missing in what the guard lends")
	}
	return f, f.fails
}

func (f *fakeFeature) Close() error {
	f.closed.Add(1)
	return nil
}

func TestFeaturesAreStartedAndClosedWithTheGuard(t *testing.T) {
	t.Parallel()
	ca := rolecalltest.NewCA(t, "mesh.local")
	f := &fakeFeature{annotation: "requires_proof"}
	guard, err := interceptors.New(ca.Source(server), nil, interceptors.With(f))
	must(t, err)
	for range 2 {
		must(t, guard.Close())
	}
	if f.started.Load() != 1 || f.closed.Load() != 1 {
		t.Errorf("started %d times and closed %d times, want once each", f.started.Load(), f.closed.Load())
	}
}

func TestAFeatureThatDoesNotStartStopsTheOthers(t *testing.T) {
	t.Parallel()
	ca := rolecalltest.NewCA(t, "mesh.local")
	first, second := &fakeFeature{annotation: "requires_proof"}, &fakeFeature{annotation: "exactly_once", fails: errors.New("no disk")}
	_, err := interceptors.New(ca.Source(server), nil, interceptors.With(first), interceptors.With(second))
	if err == nil || !strings.Contains(err.Error(), "exactly_once") || !strings.Contains(err.Error(), "no disk") {
		t.Errorf("error %v, want one that names the feature and the reason", err)
	}
	if first.closed.Load() != 1 || second.closed.Load() != 0 {
		t.Errorf("closed %d and %d times, want the one that ran", first.closed.Load(), second.closed.Load())
	}
}

func TestAFeatureThatClaimsUsersAndVerifiesNoneIsRefused(t *testing.T) {
	t.Parallel()
	ca := rolecalltest.NewCA(t, "mesh.local")
	for _, annotation := range []string{"requires_user", "requires_user_role"} {
		f := &fakeFeature{annotation: annotation}
		if _, err := interceptors.New(ca.Source(server), nil, interceptors.With(f)); err == nil || !strings.Contains(err.Error(), "would enforce "+annotation) {
			t.Errorf("%s: error %v", annotation, err)
		}
		if f.closed.Load() != 1 {
			t.Errorf("%s: closed %d times, want once", annotation, f.closed.Load())
		}
	}
}

func TestTwoFeaturesForOneAnnotationAreRefused(t *testing.T) {
	t.Parallel()
	ca := rolecalltest.NewCA(t, "mesh.local")
	f := &fakeFeature{annotation: "requires_proof"}
	if _, err := interceptors.New(ca.Source(server), nil, interceptors.With(f), interceptors.With(f)); err == nil || !strings.Contains(err.Error(), "requires_proof") {
		t.Errorf("error %v", err)
	}
	if f.started.Load() != 0 {
		t.Error("a feature was started all the same")
	}
}
