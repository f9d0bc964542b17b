package authority

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
	"unicode/utf8"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.yaml.in/yaml/v3"
)

// Bounds of registrations.yaml.
const (
	maxRegistrations = 1 << 20 // bytes
	maxRequesters    = 1000
	maxPatterns      = 100 // of each kind, for one requester
)

// settle is how long a file must have been left alone before it is taken over: half of one may be valid YAML too.
const settle = 50 * time.Millisecond

// registrations say who may ask for what. Immutable.
type registrations struct {
	everyone   *entitlement                 // without a file: what every requester may ask for
	requesters map[spiffeid.ID]*entitlement // with one: nobody else may ask for anything
	sum        [sha256.Size]byte            // of the file
}

// of returns what a requester may ask for; nil: nothing.
func (r *registrations) of(id spiffeid.ID) *entitlement {
	if r.requesters != nil {
		return r.requesters[id]
	}
	return r.everyone
}

// registrationsFile is the schema of registrations.yaml.
type registrationsFile struct {
	Requesters []struct {
		ID          string   `yaml:"id"`
		Allow       []string `yaml:"allow"`
		DNSNames    []string `yaml:"dnsNames"`
		IPAddresses []string `yaml:"ipAddresses"`
	} `yaml:"requesters"`
}

// readRegistrations reads registrations.yaml:
//
//	requesters:
//	  - id: spiffe://mesh.local/agent/host2
//	    allow: ["/service/billing"]
//	    dnsNames: ["billing.internal"]
//	    ipAddresses: ["10.0.0.0/24"]
//
// It is read strictly: an unknown key, a key or a requester that is there twice, an alias, an ID of another trust domain
// and a path that nobody is given on request are errors.
func readRegistrations(path string, td spiffeid.TrustDomain) (*registrations, error) {
	data, err := readAtMost(path, maxRegistrations)
	if err != nil {
		return nil, fmt.Errorf("read registrations: %w", err)
	}
	r, err := parseRegistrations(data, td)
	if err != nil {
		return nil, fmt.Errorf("read registrations %s: %w", path, err)
	}
	return r, nil
}

func parseRegistrations(data []byte, td spiffeid.TrustDomain) (*registrations, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("not UTF-8 text")
	}
	if err := plainYAML(data); err != nil {
		return nil, err
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	var file registrationsFile
	if err := decoder.Decode(&file); err != nil {
		return nil, err
	}
	if file.Requesters == nil {
		return nil, errors.New(`the key requesters is missing; where nobody may ask for anything, write "requesters: []"`)
	}
	if len(file.Requesters) > maxRequesters {
		return nil, fmt.Errorf("%d requesters, %d at most", len(file.Requesters), maxRequesters)
	}
	r := &registrations{requesters: map[spiffeid.ID]*entitlement{}, sum: sha256.Sum256(data)}
	for n, raw := range file.Requesters {
		id, err := spiffeid.FromString(raw.ID)
		if err != nil {
			return nil, fmt.Errorf("requester %d: id %q: %w", n+1, raw.ID, err)
		}
		switch {
		case id.TrustDomain() != td || id.Path() == "":
			return nil, fmt.Errorf("requester %d: %s is not a workload of the trust domain %s", n+1, id, td)
		case r.requesters[id] != nil:
			return nil, fmt.Errorf("requester %d: %s is there twice: put what it may ask for in one place", n+1, id)
		case max(len(raw.Allow), len(raw.DNSNames), len(raw.IPAddresses)) > maxPatterns:
			return nil, fmt.Errorf("requester %d (%s): more than %d of one kind", n+1, id, maxPatterns)
		}
		if r.requesters[id], err = newEntitlement(raw.Allow, raw.DNSNames, raw.IPAddresses); err != nil {
			return nil, fmt.Errorf("requester %d (%s): %w", n+1, id, err)
		}
	}
	return r, nil
}

// plainYAML accepts one document without anchors, aliases, merges and tags: with them one place of the file decides about
// another, where nobody who reviews it would look.
func plainYAML(data []byte) error {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document, second yaml.Node
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		return errors.New(`the file is empty; where nobody may ask for anything, write "requesters: []"`)
	case err != nil:
		return err
	}
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		return errors.New("only one YAML document is allowed")
	}
	return plainNode(&document)
}

func plainNode(n *yaml.Node) error {
	if n.Kind == yaml.AliasNode || n.Anchor != "" || n.Tag == "!!merge" || n.Style&yaml.TaggedStyle != 0 {
		return fmt.Errorf("line %d: an anchor, an alias, a merge or a tag: write the value out", n.Line)
	}
	for _, child := range n.Content {
		if err := plainNode(child); err != nil {
			return err
		}
	}
	return nil
}

// reloadRegistrations takes over what the file says now, if that is something new and has settled. On an error the last
// good ones stay in force.
func (a *Authority) reloadRegistrations() error {
	if a.config.Registrations == "" {
		return nil
	}
	info, err := os.Stat(a.config.Registrations)
	if err != nil {
		return fmt.Errorf("read registrations: %w", err)
	}
	if age := time.Since(info.ModTime()); age >= 0 && age < settle {
		return nil // it is being written; there is a next time
	}
	fresh, err := readRegistrations(a.config.Registrations, a.issuers.TrustDomain())
	if err != nil {
		return err
	}
	if fresh.sum != a.registrations.Load().sum {
		a.registrations.Store(fresh)
		a.log.Info("new registrations are in force", "requesters", len(fresh.requesters))
	}
	return nil
}

// readAtMost reads a regular file whole, or fails if it is larger than limit bytes.
func readAtMost(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return data, nil
}
