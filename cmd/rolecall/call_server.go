package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/internal/call"
	"example.com/rolecall/internal/catalog"
	"example.com/rolecall/internal/cli"
)

// find returns the server that the flags name, else the one of that name in the mesh.
func (w *caller) find(f *callFlags, name string) (call.Peer, error) {
	if strings.Contains(f.server, ",") {
		p, err := parsePeer("--server", f.server)
		return call.Peer{Target: p.Target, ID: p.ID}, err
	}
	if f.server != "" {
		name = f.server
	}
	if name == "" {
		return call.Peer{}, cli.Usagef("every server has this service: name one with --server NAME, or --server TARGET,SPIFFE-ID")
	}
	if err := w.read(f); err != nil {
		return call.Peer{}, fmt.Errorf("find the server %s: %w; elsewhere --server TARGET,SPIFFE-ID names it", name, err)
	}
	p, ok, err := w.named(name)
	if err == nil && !ok {
		err = cli.Usagef("the mesh in %s has no server %s: it has %s", *f.dir, name, strings.Join(serviceNames(w.mesh), ", "))
	}
	return p, err
}

// named returns a server of the mesh.
func (w *caller) named(name string) (p call.Peer, ok bool, err error) {
	s, ok := w.mesh.Service(name)
	if !ok {
		return p, false, nil
	}
	id, err := spiffeid.FromString(s.ID)
	if err != nil {
		return p, false, fmt.Errorf("mesh.json names the service %s %q: %w", s.Name, s.ID, err)
	}
	return call.Peer{Target: "passthrough:///" + s.Address, ID: id}, true, nil
}

// relay returns who alone may pass a signed request on, the zero ID if the flags do not say.
func (w *caller) relay(f *callFlags) (spiffeid.ID, error) {
	if f.via == "" {
		return spiffeid.ID{}, nil
	}
	if strings.Contains(f.via, ":") {
		id, err := spiffeid.FromString(f.via)
		if err == nil && id.Path() == "" {
			err = errors.New("it names no workload")
		}
		if err != nil {
			return id, cli.Usagef("--via %s: %w", f.via, err)
		}
		return id, nil
	}
	if err := w.read(f); err != nil {
		return spiffeid.ID{}, fmt.Errorf("find the service %s: %w; elsewhere --via takes a SPIFFE ID", f.via, err)
	}
	p, ok, err := w.named(f.via)
	if err == nil && !ok {
		err = cli.Usagef("--via %s: the mesh in %s has no such service: it has %s", f.via, *f.dir, strings.Join(serviceNames(w.mesh), ", "))
	}
	return p.ID, err
}

// keys returns the key server, the zero Peer if none is known.
func (w *caller) keys(f *callFlags) (call.Peer, error) {
	if f.keys != "" {
		p, err := parsePeer("--keys", f.keys)
		return call.Peer{Target: p.Target, ID: p.ID}, err
	}
	if w.mesh == nil {
		return call.Peer{}, nil
	}
	p, ok, err := w.named(catalog.Keys)
	if !ok || err != nil || p.ID.TrustDomain() != w.id.TrustDomain() {
		return call.Peer{}, err
	}
	return p, nil
}
