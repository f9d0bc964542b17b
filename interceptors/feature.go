package interceptors

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/interceptors/internal/feature"
)

// Feature enforces annotations that ask for more than the roles of a workload: usertoken.New makes one. A method with an
// annotation that no feature of the guard enforces does not start.
type Feature = feature.Feature

// With gives the guard a feature. No two may enforce the same annotation.
func With(f Feature) Option {
	return func(o *options) error {
		if f == nil {
			return errors.New("with: a nil feature was given")
		}
		for _, annotation := range f.Annotations() {
			if slices.Contains(o.annotations, annotation) {
				return fmt.Errorf("with: two features enforce %s, which one is to?", annotation)
			}
			o.annotations = append(o.annotations, annotation)
		}
		o.features = append(o.features, f)
		return nil
	}
}

// startFeatures puts the features to work. Those that run are closed with the guard, also after an error.
func (g *Guard) startFeatures() error {
	env := feature.Env{
		TrustDomain: g.trustDomain, Source: g.source, NewClient: g.NewClient, DeniedKey: g.deniedKey,
		Now: g.now, Log: g.log, Meters: g.options.meters,
	}
	for _, f := range g.options.features {
		running, err := f.Start(env)
		if err != nil {
			return fmt.Errorf("start the feature of %v: %w", f.Annotations(), err)
		}
		g.running = append(g.running, running)
		users, ok := running.(feature.Users)
		if ok {
			g.users = users
		}
		for _, annotation := range f.Annotations() {
			if !ok && strings.HasPrefix(annotation, "requires_user") {
				return fmt.Errorf("the feature of %v verifies no users, so nobody would enforce %s: it must implement feature.Users", f.Annotations(), annotation)
			}
		}
	}
	return nil
}

func (g *Guard) closeFeatures() error {
	var errs []error
	for _, running := range g.running {
		errs = append(errs, running.Close())
	}
	return errors.Join(errs...)
}

func (g *Guard) deniedKey(id spiffeid.ID, key [32]byte) bool {
	now := g.state.Load()
	if now.bindings == nil {
		return false
	}
	_, denied := now.bindings.DeniedPeer(id, key)
	return denied
}
