package pki

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Inspection is what a file is and what is wrong with it.
type Inspection struct {
	Kind     string   `json:"kind"` // bundle, chain, certificate, CSR, key, credential, CRL, bundle document, JWT-SVID
	Objects  []Object `json:"objects"`
	Problems []string `json:"problems,omitempty"` // of the whole: the order of a chain, the mode of a file
}

// Object is one certificate, request, key, list or document in a file.
type Object struct {
	Kind     string   `json:"kind"`
	Fields   []Field  `json:"fields"`
	Problems []string `json:"problems,omitempty"`
	// NotVerified is what could not be found out here, though it matters.
	NotVerified []string `json:"not_verified,omitempty"`

	cert *x509.Certificate
	key  *pem.Block
}

// Field is one thing to know about an object.
type Field struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// InspectFile is Inspect for a file; it also looks at the mode of a file that holds a key.
func InspectFile(path string, now time.Time) (*Inspection, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, fmt.Errorf("inspect: %w", err)
	}
	inspection, err := Inspect(data, now)
	if err != nil {
		return nil, fmt.Errorf("inspect %s: %w", path, err)
	}
	for n := range inspection.Objects {
		object := &inspection.Objects[n]
		if object.key == nil {
			continue
		}
		if err := checkSecretMode(path); err != nil {
			inspection.Problems = append(inspection.Problems, err.Error())
		}
		if _, err := checkKeyBlock(object.key); errors.Is(err, errWeak) && object.Kind != kindPlainKey {
			object.Problems = append(object.Problems, "repair it with: "+repairCommand(path))
		}
	}
	return inspection, nil
}

// Inspect tells what PEM or DER data is, at the given time: certificates, a chain, a bundle, a certificate request, a
// key, a key with its chain, a revocation list; or, as text, a SPIFFE bundle document or a JWT-SVID. Its error is
// ErrUnknown if it is none of these.
func Inspect(data []byte, now time.Time) (*Inspection, error) {
	i := &Inspection{}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, errors.New("it is empty")
	}
	if !bytes.Contains(data, []byte("-----BEGIN ")) {
		object, ok := inspectText(data, now)
		if !ok {
			var err error
			if object, err = inspectDER(data, now); err != nil {
				return nil, err
			}
		}
		i.Objects = append(i.Objects, object)
	}
	for rest := data; bytes.Contains(rest, []byte("-----BEGIN ")); {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			i.Problems = append(i.Problems, "a PEM block is truncated or damaged")
			break
		}
		if block.Type == pemPublicKey {
			i.Objects = append(i.Objects, inspectJWTKey(data, now))
			continue
		}
		i.Objects = append(i.Objects, inspectBlock(block, now))
	}
	if len(i.Objects) == 0 {
		return nil, ErrUnknown
	}
	i.Kind = i.kind()
	i.inspectChain()
	i.inspectKeyFits()
	return i, nil
}

// OK tells whether nothing is wrong with anything in the file.
func (i *Inspection) OK() bool {
	for _, o := range i.Objects {
		if len(o.Problems) > 0 {
			return false
		}
	}
	return len(i.Problems) == 0
}

// WriteText writes the inspection for people. What was inspected may be anybody's work: each text of it stays in its line,
// which nothing else looks like, and does nothing to a terminal.
func (i *Inspection) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", inLine(i.Kind))
	for n, o := range i.Objects {
		if len(i.Objects) > 1 || o.Kind != i.Kind {
			fmt.Fprintf(&b, "\n%d: %s\n", n+1, inLine(o.Kind))
		}
		for _, f := range o.Fields {
			fmt.Fprintf(&b, "  %-14s %s\n", inLine(f.Name), inLine(f.Value))
		}
		for _, p := range o.Problems {
			fmt.Fprintf(&b, "  PROBLEM        %s\n", inLine(p))
		}
		for _, n := range o.NotVerified {
			fmt.Fprintf(&b, "  NOT VERIFIED   %s\n", inLine(n))
		}
	}
	for _, p := range i.Problems {
		fmt.Fprintf(&b, "\nPROBLEM: %s\n", inLine(p))
	}
	switch unverified := func(o Object) bool { return len(o.NotVerified) > 0 }; {
	case !i.OK():
	case slices.ContainsFunc(i.Objects, unverified):
		fmt.Fprintf(&b, "\nnothing is wrong with what was checked\n")
	default:
		fmt.Fprintf(&b, "\nnothing is wrong with it\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// inLine returns a text as part of a line: control and formatting characters become a question mark, and white space,
// however much of it, one space, so that no padding carries what follows to the beginning of a line on the screen.
func inLine(s string) string {
	space := false
	return strings.Map(func(r rune) rune {
		after := space
		space = unicode.IsSpace(r)
		switch {
		case space && after:
			return -1
		case space:
			return ' '
		case unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == unicode.ReplacementChar:
			return '?'
		}
		return r
	}, s)
}

// kind names the whole by its parts.
func (i *Inspection) kind() string {
	if len(i.Objects) == 1 && i.Objects[0].Kind != kindRoot {
		return i.Objects[0].Kind
	}
	var roots, certs, keys, tokenKeys, requests int
	for _, o := range i.Objects {
		switch {
		case o.Kind == kindJWTKey:
			tokenKeys++
		case o.Kind == kindIssuerRequest:
			requests++
		case o.key != nil:
			keys++
		case o.cert != nil && o.Kind == kindRoot:
			roots++
			certs++
		case o.cert != nil:
			certs++
		}
	}
	switch {
	case keys == 1 && tokenKeys == 1 && len(i.Objects) == 2:
		return "JWT key of an authority"
	case keys == 1 && requests == 1 && len(i.Objects) == 2:
		return "issuer that was asked for and not signed yet"
	case certs+keys < len(i.Objects) || keys > 1:
		return "collection"
	case keys == 1:
		return "credential (a key with its chain)"
	case roots == certs:
		return "bundle (the roots that a verifier trusts)"
	}
	return "chain"
}

// inspectChain checks that each certificate of a chain is signed by the one after it.
func (i *Inspection) inspectChain() {
	var chain []*x509.Certificate
	for _, o := range i.Objects {
		if o.cert != nil && o.Kind != kindRoot {
			chain = append(chain, o.cert)
		}
	}
	for n := 0; n+1 < len(chain); n++ {
		if err := chain[n].CheckSignatureFrom(chain[n+1]); err != nil {
			i.Problems = append(i.Problems, fmt.Sprintf("certificate %d is not signed by the one after it: %v", n+1, err))
		}
		if chain[n].NotAfter.After(chain[n+1].NotAfter) {
			i.Problems = append(i.Problems, fmt.Sprintf("certificate %d outlives the one that signed it", n+1))
		}
	}
}

// inspectKeyFits checks that a key in the clear is that of the first certificate beside it.
func (i *Inspection) inspectKeyFits() {
	var first *x509.Certificate
	for _, o := range i.Objects {
		if o.cert != nil && first == nil {
			first = o.cert
		}
	}
	for _, o := range i.Objects {
		if o.Kind != kindPlainKey || first == nil {
			continue
		}
		key, err := parsePlainKey(o.key)
		if err != nil {
			continue // already a problem of the key
		}
		public, ok := key.Public().(interface{ Equal(x crypto.PublicKey) bool })
		if ok && !public.Equal(first.PublicKey) {
			i.Problems = append(i.Problems, "the key is not that of the first certificate")
		}
	}
}
