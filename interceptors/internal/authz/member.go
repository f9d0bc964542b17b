package authz

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// SPIFFE-ID §2.3: a trust domain's name has 255 bytes at most, a SPIFFE ID 2048.
const (
	maxTrustDomain = 255
	maxID          = 2048
)

// wildcard is how a member ends that stands for every ID with one more path segment.
const wildcard = "/*"

// Member is who holds a role: one SPIFFE ID, or every ID of the own trust domain that has exactly one path segment after
// a prefix.
type Member struct {
	Text string // as written in the file
	Line int    // in the file, from 1

	id     spiffeid.ID // the zero ID for a wildcard
	prefix string      // the text without "/*"; empty for one ID
}

// ID returns the member's SPIFFE ID, and false for a wildcard.
func (m Member) ID() (spiffeid.ID, bool) { return m.id, m.prefix == "" }

// parent returns a SPIFFE ID without its last path segment and the slash before it: what a wildcard that matches it has
// before "/*". It is empty for an ID without a path.
func parent(id spiffeid.ID) string {
	if id.Path() == "" {
		return ""
	}
	text := id.String()
	return text[:strings.LastIndexByte(text, '/')]
}

// parseMember reads a member of a binding in a file for trust domain own.
func parseMember(text string, own spiffeid.TrustDomain) (Member, error) {
	prefix, isWildcard := strings.CutSuffix(text, wildcard)
	if !isWildcard {
		id, err := parseID(text)
		if err != nil && strings.Contains(text, "*") {
			err = fmt.Errorf("%w; %w", err, errNoPattern)
		}
		return Member{Text: text, id: id}, err
	}
	id, err := spiffeid.FromString(prefix)
	switch {
	case len(text) > maxID || err != nil:
		return Member{}, fmt.Errorf("%q: %w", text, errors.Join(err, errNoPattern))
	case !id.MemberOf(own):
		return Member{}, fmt.Errorf("%q is a wildcard for trust domain %s: only IDs of %s can be bound by one; name each foreign ID in full", text, id.TrustDomain(), own)
	}
	return Member{Text: text, prefix: prefix}, nil
}

var errNoPattern = errors.New(`a member is a SPIFFE ID in full, or ends in "/*" for exactly one more path segment; there are no other patterns`)

// parseID reads a workload's SPIFFE ID in full.
func parseID(text string) (spiffeid.ID, error) {
	id, err := spiffeid.FromString(text)
	switch {
	case err != nil:
		return spiffeid.ID{}, fmt.Errorf("%q is not a SPIFFE ID: %w", text, err)
	case id.Path() == "":
		return spiffeid.ID{}, fmt.Errorf("%q names a trust domain, not a workload: add its path", text)
	case len(text) > maxID || len(id.TrustDomain().Name()) > maxTrustDomain:
		return spiffeid.ID{}, fmt.Errorf("a SPIFFE ID has %d bytes at most and its trust domain %d: this one is longer", maxID, maxTrustDomain)
	}
	return id, nil
}
