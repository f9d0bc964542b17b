package interceptors

import (
	"maps"
	"runtime/debug"
	"slices"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/interceptors/internal/authz"
	"example.com/rolecall/interceptors/internal/identity"
)

// sweepInterval is how soon a change of the bundle, and an expiry that only the wall clock knows of, take effect. A
// source has no reliable way to tell of a change (go-spiffe's channel has one reader), so it is asked.
const sweepInterval = 200 * time.Millisecond

// applyBindings takes what the watcher of the bindings read.
func (g *Guard) applyBindings(b *authz.Bindings, err error) {
	if err == nil {
		err = g.checkDomain(b)
	}
	if err != nil {
		g.policyError.Store(&policyError{err})
		g.log.Error("the bindings were not taken over, the last good ones stay in force", "error", err)
		return
	}
	for {
		old := g.state.Load()
		next := &state{bindings: b, loaded: g.now()}
		if old != nil {
			next.trust = old.trust
		} else {
			next.trust = identity.ReadTrust(g.source, []spiffeid.TrustDomain{g.trustDomain})
		}
		if g.state.CompareAndSwap(old, next) {
			break
		}
	}
	g.policyError.Store(nil)
	g.log.Info("new bindings are in force", "policy", b.Version)
	select {
	case g.changed <- struct{}{}:
	default:
	}
}

// watch takes changes to all servers and connections until the guard is closed.
func (g *Guard) watch() {
	defer close(g.done)
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		select {
		case <-g.stop:
			return
		case <-g.changed:
		case <-tick.C:
		}
		g.sweepOrClose()
	}
}

// sweepOrClose closes everything if a check panics: what cannot be looked at any more must not stay open.
func (g *Guard) sweepOrClose() {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		g.log.Error("panic while looking at open connections, all are closed", "panic", cut(panicText(p), 1024), "stack", string(debug.Stack()))
		servers, clients := g.open()
		for _, s := range servers {
			clients = append(clients, s.connections()...)
		}
		for _, c := range clients {
			_ = c.Close()
		}
	}()
	g.sweep()
}

// sweep looks at everything that is open: does the newest state still let it be?
func (g *Guard) sweep() {
	servers, clients := g.open()
	g.refreshTrust(servers, clients)
	now, wall := g.state.Load(), g.now()
	for _, s := range servers {
		s.sweep(now, wall)
	}
	for _, c := range clients {
		if c.Tick(wall) || g.judgeServer(c, now, wall) != nil {
			_ = c.Close()
		}
	}
}

func (g *Guard) open() ([]*Server, []*connection) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.servers), slices.Collect(maps.Keys(g.clients))
}

// refreshTrust reads the bundles again and replaces the state if a root came or went.
func (g *Guard) refreshTrust(servers []*Server, clients []*connection) {
	domains := map[spiffeid.TrustDomain]struct{}{g.trustDomain: {}}
	for _, s := range servers {
		for _, c := range s.connections() {
			domains[c.ID.TrustDomain()] = struct{}{}
		}
	}
	for _, c := range clients {
		domains[c.ID.TrustDomain()] = struct{}{}
	}
	trust := identity.ReadTrust(g.source, slices.Collect(maps.Keys(domains)))
	for {
		old := g.state.Load()
		if old.trust.Equal(trust) || g.state.CompareAndSwap(old, &state{bindings: old.bindings, loaded: old.loaded, trust: trust}) {
			return
		}
	}
}
