package agentd

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"sync"

	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/pki"
)

// Federated is another trust domain whose bundle workloads are given beside their own. What its roots sign is then an
// identity of that trust domain, and of no other: what such an identity may do is for roles.yaml to say.
type Federated struct {
	TrustDomain spiffeid.TrustDomain
	// File holds its bundle, as a SPIFFE bundle document or the roots in PEM; it is read again whenever it changes. With
	// URL it is what the agent starts with, and the agent rewrites it with what the endpoint says.
	File string
	// URL is its bundle endpoint of the https_spiffe profile, asked as often as the bundle says; "": there is the file alone.
	URL string
	// EndpointID is the SPIFFE ID that the endpoint must have, in that same trust domain. It goes with URL.
	EndpointID spiffeid.ID
}

// check refuses what cannot be federated with.
func (f Federated) check(own spiffeid.TrustDomain) error {
	switch {
	case f.TrustDomain.IsZero():
		return errors.New("its trust domain is needed")
	case f.TrustDomain == own:
		return errors.New("it is the agent's own trust domain, whose bundle the authority alone tells")
	case f.File == "":
		return errors.New("a file with its bundle is needed, also to begin with where there is a URL")
	case (f.URL == "") != f.EndpointID.IsZero():
		return errors.New("the URL of an endpoint and its SPIFFE ID go together")
	case f.URL == "":
		return nil
	case f.EndpointID.TrustDomain() != f.TrustDomain || f.EndpointID.Path() == "":
		return fmt.Errorf("the endpoint's SPIFFE ID %s is not that of a workload of it", f.EndpointID)
	}
	// SPIFFE Federation §5.2.1: https, no user information.
	if parsed, err := url.Parse(f.URL); err != nil || parsed.Scheme != "https" || parsed.Host == "" || parsed.User != nil || parsed.Fragment != "" {
		return fmt.Errorf("%q is not the URL of an endpoint: https://HOST[:PORT]/PATH is needed", f.URL)
	}
	return nil
}

// federation keeps the bundles of other trust domains. Safe for concurrent use.
type federation struct {
	log     *slog.Logger
	members []*member

	mu      sync.Mutex
	bundles map[spiffeid.TrustDomain]*spiffebundle.Bundle
	set     func([]*spiffebundle.Bundle) // nil until tell
}

// member is one of the other trust domains.
type member struct {
	Federated
	home   *federation
	file   *watchedFile
	inFile [sha256.Size]byte // of what the file was last seen to hold; guarded by home.mu
}

func newFederation(all []Federated, own spiffeid.TrustDomain, log *slog.Logger) (*federation, error) {
	f := &federation{log: log, bundles: map[spiffeid.TrustDomain]*spiffebundle.Bundle{}}
	seen := map[spiffeid.TrustDomain]bool{}
	for _, one := range all {
		if err := one.check(own); err != nil {
			return nil, fmt.Errorf("federation with %q: %w", one.TrustDomain.Name(), err)
		}
		if seen[one.TrustDomain] {
			return nil, fmt.Errorf("federation with %q is asked for twice", one.TrustDomain.Name())
		}
		seen[one.TrustDomain] = true
		m := &member{Federated: one, home: f}
		m.file = &watchedFile{path: one.File, what: "bundle of " + one.TrustDomain.Name(), limit: pki.MaxBundleDocument,
			interval: fileInterval, log: log, use: m.use}
		f.members = append(f.members, m)
	}
	return f, nil
}

// tell names who is told of the bundles, and of every change.
func (f *federation) tell(set func([]*spiffebundle.Bundle)) {
	f.set = set
	for _, m := range f.members {
		m.file.readAgain() // one that cannot be read is reported: the others, and the own trust domain, do not depend on it
	}
}

// run follows files and endpoints until ctx ends.
func (f *federation) run(ctx context.Context) {
	var running sync.WaitGroup
	for _, m := range f.members {
		running.Go(func() { m.file.watch(ctx) })
		if m.URL != "" {
			running.Go(func() { m.poll(ctx) })
		}
	}
	running.Wait()
}

// put takes over the bundle of one trust domain and tells of all.
func (f *federation) put(bundle *spiffebundle.Bundle) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bundles[bundle.TrustDomain()] = bundle
	f.set(slices.Collect(maps.Values(f.bundles)))
}

// replace takes over the next bundle of a trust domain if known is still the one at hand, and tells whether it is.
func (f *federation) replace(known, next *spiffebundle.Bundle) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.bundles[next.TrustDomain()] != known {
		return false
	}
	f.bundles[next.TrustDomain()] = next
	f.set(slices.Collect(maps.Values(f.bundles)))
	return true
}

// bundle returns what is known of the member's trust domain, nil if nothing is.
func (m *member) bundle() *spiffebundle.Bundle {
	m.home.mu.Lock()
	defer m.home.mu.Unlock()
	return m.home.bundles[m.TrustDomain]
}

// use takes over the content of the file.
func (m *member) use(data []byte) error {
	m.saw(data)
	bundle, err := parseForeign(m.TrustDomain, data)
	if err == nil && !bundle.Equal(m.bundle()) {
		m.home.put(bundle)
	}
	return err
}

// saw remembers what the file holds, and tells whether that is news.
func (m *member) saw(data []byte) bool {
	sum := sha256.Sum256(data)
	m.home.mu.Lock()
	defer m.home.mu.Unlock()
	news := sum != m.inFile
	m.inFile = sum
	return news
}

// look takes over the file if somebody else has written it and its watch has not seen that yet. What cannot be used is for
// the watch to report.
func (m *member) look() {
	if data, err := readAtMost(m.File, pki.MaxBundleDocument); err == nil && m.saw(data) {
		_ = m.use(data)
	}
}

// write replaces the file.
func (m *member) write(data []byte) error {
	err := replaceFile(m.File, data)
	if err == nil {
		m.saw(data)
	}
	return err
}

// parseForeign reads a bundle document, or roots in PEM.
func parseForeign(td spiffeid.TrustDomain, data []byte) (*spiffebundle.Bundle, error) {
	if !bytes.HasPrefix(bytes.TrimSpace(data), []byte("-----BEGIN ")) {
		return pki.ParseBundleDocument(td, data)
	}
	roots, err := x509bundle.Parse(td, data)
	if err != nil {
		return nil, err
	}
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("it holds a %q beside certificates", block.Type)
		}
	}
	// The same rules as for a document: as one it is read again.
	document, err := pki.EncodeBundleDocument(roots, nil, 0, 0)
	if err != nil {
		return nil, err
	}
	strict, err := pki.ParseBundleDocument(td, document)
	if err != nil {
		return nil, err
	}
	if strict.Empty() {
		return nil, errors.New("it holds no root")
	}
	return spiffebundle.FromX509Bundle(strict.X509Bundle()), nil
}
