package inspect

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"

	keysv1 "example.com/rolecall/gen/keys/v1"
	"example.com/rolecall/internal/jwk"
	"example.com/rolecall/pki"
)

// readKeys reads what the key server has answered to GetKeys, in JSON; nil if it is none.
func readKeys(data []byte) []*keysv1.Key {
	var answer keysv1.GetKeysResponse
	if protojson.Unmarshal(data, &answer) != nil {
		return nil
	}
	return answer.GetKeys()
}

// chainOf returns the certificates that a workload has shown with a key.
func chainOf(key *keysv1.Key) (chain []*x509.Certificate, err error) {
	for i, der := range key.GetChain() {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of the key %q: %w", i+1, key.GetKid(), err)
		}
		chain = append(chain, cert)
	}
	if len(chain) == 0 {
		return nil, fmt.Errorf("the key %q has no certificate", key.GetKid())
	}
	return chain, nil
}

// announced explains an answer of GetKeys; nil if the data is none.
func announced(data []byte, opts Options) *pki.Inspection {
	answer := readKeys(data)
	if answer == nil {
		return nil
	}
	all := &pki.Inspection{Kind: "keys that workloads have announced"}
	for _, key := range answer {
		o := newObject("key of " + key.GetSpiffeId())
		o.field("key", "%s", key.GetKid())
		certificates := o.announcement(key, opts)
		all.Objects = append(append(all.Objects, o.Object), certificates.Objects...)
		all.Problems = append(all.Problems, certificates.Problems...)
	}
	return all
}

// announcement says what is wrong with an announced key, and explains its certificates.
func (o *object) announcement(key *keysv1.Key, opts Options) *pki.Inspection {
	o.unverified("whether a root of yours stands behind it: inspect what was signed, with --cert this file and --bundle FILE")
	chain, err := chainOf(key)
	if err == nil {
		err = announcedBy(chain[0], key)
	}
	if err != nil {
		o.problem("%v", err)
	}
	var text []byte
	for _, der := range key.GetChain() {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	explained, err := pki.Inspect(text, opts.Now)
	if err != nil {
		return &pki.Inspection{}
	}
	return explained
}

// announcedBy checks that a certificate is that of a key.
func announcedBy(leaf *x509.Certificate, key *keysv1.Key) error {
	described, err := jwk.ES256(leaf.PublicKey)
	switch {
	case err != nil:
		return err
	case described.KeyID != key.GetKid():
		return fmt.Errorf("its certificate is for the key %s", described.KeyID)
	case len(leaf.URIs) != 1 || leaf.URIs[0].String() != key.GetSpiffeId():
		return errors.New("its certificate is that of another workload")
	}
	return nil
}
