package authz

import (
	"encoding/hex"
	"fmt"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.yaml.in/yaml/v3"

	rolecallv1 "example.com/rolecall/gen/rolecall/v1"
)

// Denial refuses an identity, a key, or one key of one identity.
type Denial struct {
	Member spiffeid.ID // the zero ID: every identity with the key
	Key    [32]byte    // SHA-256 of a SubjectPublicKeyInfo, if HasKey
	HasKey bool
	Reason string // never empty: where the file gives none, the line of the denial
	Line   int    // in the file, from 1
}

// readDenial takes over one denial.
func readDenial(r *reader, n *yaml.Node, m *rolecallv1.Denial) Denial {
	d := Denial{Reason: m.GetReason(), Line: n.Line}
	if d.Reason == "" {
		d.Reason = fmt.Sprintf("line %d of the bindings", n.Line)
	}
	if m.GetMember() == "" && m.GetKeySha256() == "" {
		r.fail(n, "a denial needs a member, a keySha256, or both")
	}
	if m.GetMember() != "" {
		id, err := parseID(m.GetMember())
		if err != nil {
			r.fail(at(n, "member"), "%v; a denial names one ID in full", err)
		}
		d.Member = id
	}
	if text := m.GetKeySha256(); text != "" {
		key, err := hex.DecodeString(text)
		if err != nil || len(key) != len(d.Key) {
			r.fail(at(n, "keySha256"), "%q is not a SHA-256: 64 hexadecimal digits are needed", text)
			return d
		}
		d.Key, d.HasKey = [32]byte(key), true
	}
	return d
}

// denied finds a denial without going through all of them. The values are the reasons.
type denied struct {
	members map[spiffeid.ID]string
	keys    map[[32]byte]string
	pairs   map[pair]string
}

// pair is one key of one identity.
type pair struct {
	id  spiffeid.ID
	key [32]byte
}

func indexDenials(denials []Denial) denied {
	x := denied{members: map[spiffeid.ID]string{}, keys: map[[32]byte]string{}, pairs: map[pair]string{}}
	for _, d := range denials {
		switch {
		case !d.HasKey:
			x.members[d.Member] = d.Reason
		case d.Member.IsZero():
			x.keys[d.Key] = d.Reason
		default:
			x.pairs[pair{d.Member, d.Key}] = d.Reason
		}
	}
	return x
}

// DeniedPeer reports whether the holder of a leaf is refused, by its SPIFFE ID, by the SHA-256 of the leaf's
// SubjectPublicKeyInfo, or by both together. The reason is for the audit record and never for the caller.
func (b *Bindings) DeniedPeer(id spiffeid.ID, leafKey [32]byte) (reason string, denied bool) {
	if reason, denied = b.DeniedID(id); denied {
		return reason, true
	}
	return b.DeniedCA(id, leafKey)
}

// DeniedID reports whether a SPIFFE ID is refused with every key.
func (b *Bindings) DeniedID(id spiffeid.ID) (reason string, denied bool) {
	reason, denied = b.denied.members[id]
	return reason, denied
}

// DeniedCA reports whether a peer is refused for the SHA-256 of the SubjectPublicKeyInfo of a CA in its chain, with
// every identity or with its own.
func (b *Bindings) DeniedCA(id spiffeid.ID, key [32]byte) (reason string, denied bool) {
	if reason, denied = b.denied.keys[key]; denied {
		return reason, true
	}
	if len(b.denied.pairs) > 0 {
		reason, denied = b.denied.pairs[pair{id, key}]
	}
	return reason, denied
}
