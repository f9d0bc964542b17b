// Package inspect explains a file to people: what it is, what it says, what is wrong with it, and what was not verified.
//
//	inspection, err := inspect.Data(data, inspect.Options{Now: time.Now()})
//	inspection.WriteText(os.Stdout)
//
// It knows what is signed for a call: proofs and receipts, access tokens of users, requests and answers that are passed on
// with them, and what the key server says of the keys. Everything else is for pki. It asks no server, so that it can say what
// a text claims, and with the signer's certificate who made it, but never that a server would accept it. No signature is
// shown: a token is a secret while it lives.
package inspect

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"example.com/rolecall/pki"
)

// Options are what is at hand beside the file. All but Now may be left out.
type Options struct {
	Now time.Time
	// Chains are certificate chains of who may have signed, each leaf first: that of the key counts.
	Chains [][]*x509.Certificate
	// Bundle holds the roots that the chain is verified with, in PEM.
	Bundle []byte
	// Body is the exact bytes of the message that a proof or a receipt is about; nil: not at hand.
	Body []byte
}

// Data tells what the content of a file is. The error means that it is nothing that is known here.
func Data(data []byte, o Options) (*pki.Inspection, error) {
	if i := signed(data, o); i != nil {
		return i, nil
	}
	i, err := pki.Inspect(data, o.Now)
	return i, orSigned(err)
}

// orSigned adds what is known here to the error of pki about what it does not know.
func orSigned(err error) error {
	if errors.Is(err, pki.ErrUnknown) {
		return fmt.Errorf("%w; nor a proof, a receipt, or JSON with a signed request or its answer in it", err)
	}
	return err
}

// signed explains what is signed for a call, and the keys for that; nil if it is something else.
func signed(data []byte, o Options) *pki.Inspection {
	data = bytes.TrimSpace(data)
	if i := signedMessage(data, o); i != nil {
		return i
	}
	if t := parseCompact(data); t != nil {
		if object := t.inspect(o); object != nil {
			return whole(object)
		}
	}
	if i := announced(data, o); i != nil {
		return i
	}
	return signedMembers(data, o)
}

// inspect explains a token; nil if it is of a kind that pki knows.
func (t *compact) inspect(o Options) *object {
	switch t.kind() {
	case proofType:
		return inspectProof(t, o)
	case receiptType:
		return inspectReceipt(t, o)
	case accessType:
		return inspectAccess(t, o)
	}
	return nil
}

// object is what is found out about one thing.
type object struct{ pki.Object }

func newObject(kind string) *object { return &object{pki.Object{Kind: kind}} }

func whole(objects ...*object) *pki.Inspection {
	i := &pki.Inspection{Kind: objects[0].Kind}
	for _, o := range objects {
		i.Objects = append(i.Objects, o.Object)
	}
	return i
}

func (o *object) field(name, format string, args ...any) {
	o.Fields = append(o.Fields, pki.Field{Name: name, Value: fmt.Sprintf(format, args...)})
}

func (o *object) problem(format string, args ...any) {
	o.Problems = append(o.Problems, fmt.Sprintf(format, args...))
}

func (o *object) unverified(format string, args ...any) {
	o.NotVerified = append(o.NotVerified, fmt.Sprintf(format, args...))
}

// when writes a time, and how far it is from now.
func when(t, now time.Time) string {
	d := t.Sub(now).Round(time.Second)
	relative := "now"
	switch {
	case d > 0:
		relative = "in " + d.String()
	case d < 0:
		relative = (-d).String() + " ago"
	}
	return t.UTC().Format(time.RFC3339) + " (" + relative + ")"
}
