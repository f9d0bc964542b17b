package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.yaml.in/yaml/v3"
)

// MaxEntriesFile is the size of the largest entries.yaml that is read, in bytes.
const MaxEntriesFile = 1 << 20

// Bounds of entries.yaml.
const (
	maxEntries   = 1000
	maxSelectors = 16
)

// Entry entitles every process that all of its selectors fit to an identity.
type Entry struct {
	ID          spiffeid.ID
	Selectors   []Selector
	DNSNames    []string
	IPAddresses []net.IP
}

// entriesFile is the schema of entries.yaml.
type entriesFile struct {
	Entries []struct {
		SPIFFEID    string   `yaml:"spiffeId"`
		Selectors   []string `yaml:"selectors"`
		DNSNames    []string `yaml:"dnsNames"`
		IPAddresses []string `yaml:"ipAddresses"`
	} `yaml:"entries"`
}

// ReadEntries reads entries.yaml:
//
//	entries:
//	  - spiffeId: spiffe://mesh.local/service/billing
//	    selectors: ["unix:uid:1000", "unix:path:/usr/local/bin/billing"]
//	    dnsNames: [localhost]
//
// All selectors of an entry must fit. An unknown key, an ID of another trust domain and an entry without a selector are
// errors.
func ReadEntries(path string, td spiffeid.TrustDomain) ([]Entry, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read entries: %w", err)
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, MaxEntriesFile+1))
	if err != nil {
		return nil, fmt.Errorf("read entries: %w", err)
	}
	entries, err := ParseEntries(data, td)
	if err != nil {
		return nil, fmt.Errorf("read entries %s: %w", path, err)
	}
	return entries, nil
}

// ParseEntries reads the content of an entries.yaml, as ReadEntries does.
func ParseEntries(data []byte, td spiffeid.TrustDomain) ([]Entry, error) {
	if len(data) > MaxEntriesFile {
		return nil, fmt.Errorf("larger than %d bytes", MaxEntriesFile)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	var file entriesFile
	if err := decoder.Decode(&file); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if err := decoder.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, errors.New("holds more than one YAML document")
	}
	if len(file.Entries) > maxEntries {
		return nil, fmt.Errorf("%d entries, %d at most", len(file.Entries), maxEntries)
	}
	entries := make([]Entry, len(file.Entries))
	for n, raw := range file.Entries {
		entry := &entries[n]
		var err error
		if entry.ID, err = spiffeid.FromString(raw.SPIFFEID); err != nil {
			return nil, fmt.Errorf("entry %d: spiffeId %q: %w", n+1, raw.SPIFFEID, err)
		}
		if err := checkID(entry.ID, td); err != nil {
			return nil, fmt.Errorf("entry %d: %w", n+1, err)
		}
		if len(raw.Selectors) == 0 || len(raw.Selectors) > maxSelectors {
			return nil, fmt.Errorf("entry %d (%s): %d selectors, 1 to %d are needed", n+1, entry.ID, len(raw.Selectors), maxSelectors)
		}
		for _, text := range raw.Selectors {
			selector, err := ParseSelector(text)
			if err != nil {
				return nil, fmt.Errorf("entry %d (%s): %w", n+1, entry.ID, err)
			}
			entry.Selectors = append(entry.Selectors, selector)
		}
		// In the order in which they are evaluated: a process that something cheap tells apart costs no more than that.
		slices.SortStableFunc(entry.Selectors, func(a, b Selector) int { return a.cost() - b.cost() })
		entry.DNSNames = raw.DNSNames
		if entry.IPAddresses, err = parseIPs(raw.IPAddresses); err != nil {
			return nil, fmt.Errorf("entry %d (%s): %w", n+1, entry.ID, err)
		}
	}
	return entries, nil
}

func parseIPs(texts []string) ([]net.IP, error) {
	var ips []net.IP
	for _, text := range texts {
		ip := net.ParseIP(text)
		if ip == nil {
			return nil, fmt.Errorf("%q is not an IP address", text)
		}
		ips = append(ips, ip)
	}
	return ips, nil
}

// checkID accepts IDs of workloads of the agent's own trust domain.
func checkID(id spiffeid.ID, td spiffeid.TrustDomain) error {
	if id.TrustDomain() != td {
		return fmt.Errorf("%s is not of the trust domain %s", id, td)
	}
	if id.Path() == "" {
		return fmt.Errorf("%s has no path: it names the trust domain, not a workload", id)
	}
	return nil
}
