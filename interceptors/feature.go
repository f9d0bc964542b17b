package interceptors

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/interceptors/internal/authz"
	"example.com/rolecall/interceptors/internal/feature"
)

// Feature enforces annotations that ask for more than the roles of a workload. usertoken.New, proof.New and exactlyonce.New
// make them, and nobody outside of this module can. A server with a method whose annotation no feature of the guard enforces
// does not start.
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
		Now: g.now, Log: g.log, Meters: g.options.meters, Describe: g.methods.describe,
	}
	var calling, signing []feature.Calling
	for _, f := range g.options.features {
		running, err := f.Start(env)
		if err != nil {
			return fmt.Errorf("start the feature of %v: %w", f.Annotations(), err)
		}
		g.running = append(g.running, running)
		for _, annotation := range f.Annotations() {
			if err := g.entrust(annotation, running); err != nil {
				return fmt.Errorf("the feature of %v %w", f.Annotations(), err)
			}
		}
		c, ok := running.(feature.Calling)
		switch {
		case ok && slices.Contains(f.Annotations(), "requires_proof"):
			signing = append(signing, c) // last, so that nobody changes a call that is signed
		case ok:
			calling = append(calling, c)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calling = append(calling, signing...)
	return nil
}

// entrust has a feature enforce an annotation, if it can.
func (g *Guard) entrust(annotation string, running feature.Running) (err error) {
	var ok bool
	switch annotation {
	case "requires_user", "requires_user_role":
		if g.users, ok = running.(feature.Users); !ok {
			return fmt.Errorf("verifies no users, so nobody would enforce %s: it must implement feature.Users", annotation)
		}
	case "requires_proof":
		if g.proofs, ok = running.(feature.Proofs); !ok {
			return fmt.Errorf("verifies no proofs, so nobody would enforce %s: it must implement feature.Proofs", annotation)
		}
	case "exactly_once":
		if g.once, ok = running.(feature.Once); !ok {
			return fmt.Errorf("answers no repeated requests, so nobody would enforce %s: it must implement feature.Once", annotation)
		}
	}
	return nil
}

// serveFeatures tells the features which methods of a server they will have to do with.
func (g *Guard) serveFeatures(table *authz.Table) error {
	for i, running := range g.running {
		serving, ok := running.(feature.Serving)
		if !ok {
			continue
		}
		annotations := g.options.features[i].Annotations()
		var methods []feature.Method
		for _, m := range table.Methods() {
			if slices.ContainsFunc(annotations, m.Conditions.Has) {
				methods = append(methods, g.methods.describe(m.Full))
			}
		}
		if err := serving.Serve(methods); err != nil {
			return fmt.Errorf("the feature of %v: %w", annotations, err)
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
