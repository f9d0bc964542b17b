package rootrotation_test

import (
	"bytes"
	"encoding/pem"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/internal/rootrotation"
	"example.com/rolecall/pki"
)

func newRoot(t *testing.T, td string) *pki.Root {
	t.Helper()
	root, err := pki.CreateRoot(filepath.Join(t.TempDir(), "root"), []byte("correct horse battery"),
		pki.RootOptions{TrustDomain: spiffeid.RequireTrustDomainFromString(td)})
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func TestAProposalIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	old, next := newRoot(t, "mesh.local"), newRoot(t, "mesh.local")
	for name, signer := range map[string]*pki.Root{"with a cross certificate": old, "without, because the old key is lost": nil} {
		wrote, err := rootrotation.Propose(signer, next)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		read, err := rootrotation.ParseProposal(wrote.Encode())
		if err != nil || !read.New.Equal(next.Certificate()) || (read.Cross == nil) != (signer == nil) {
			t.Errorf("%s: read %+v, %v", name, read, err)
		}
		if signer != nil && !bytes.Equal(read.Cross.Raw, wrote.Cross.Raw) {
			t.Errorf("%s: another cross certificate was read", name)
		}
	}
}

func TestANewRootWhoseKeyIsLostIsReplacedBeforeItSigns(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca, _, err := pki.OpenOrCreate(dir, pki.Config{TrustDomain: spiffeid.RequireTrustDomainFromString("mesh.local")})
	if err != nil {
		t.Fatal(err)
	}
	issuers, lost, next := ca.Issuers(), newRoot(t, "mesh.local"), newRoot(t, "mesh.local")
	for _, root := range []*pki.Root{lost, next, next} {
		proposal, err := rootrotation.Propose(ca.Root(), root)
		if err != nil {
			t.Fatal(err)
		}
		if err := rootrotation.Prepare(issuers, proposal); err != nil {
			t.Fatal(err)
		}
	}
	if got := issuers.Bundle().X509Authorities(); len(got) != 2 || !issuers.Rotation().New.Equal(next.Certificate()) {
		t.Errorf("%d roots, new one %s", len(got), rootrotation.Short(issuers.Rotation().New))
	}
	if err := rootrotation.Activate(issuers, next); err != nil {
		t.Fatal(err)
	}
	proposal, err := rootrotation.Propose(ca.Root(), lost)
	if err != nil {
		t.Fatal(err)
	}
	if err := rootrotation.Prepare(issuers, proposal); err == nil {
		t.Error("another root took the place of one that signs")
	}
}

func TestAProposalThatCannotBeMeantIsRefused(t *testing.T) {
	t.Parallel()
	old, next, other := newRoot(t, "mesh.local"), newRoot(t, "mesh.local"), newRoot(t, "other.example")
	if _, err := rootrotation.Propose(old, other); err == nil || !strings.Contains(err.Error(), "one trust domain") {
		t.Errorf("roots of two trust domains: %v", err)
	}
	if _, err := rootrotation.Propose(old, old); err == nil || !strings.Contains(err.Error(), "the same") {
		t.Errorf("a root that replaces itself: %v", err)
	}
	good, err := rootrotation.Propose(old, next)
	if err != nil {
		t.Fatal(err)
	}
	cross := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: good.Cross.Raw})
	for name, data := range map[string][]byte{
		"nothing":                nil,
		"text":                   []byte("hello"),
		"a private key":          pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}}),
		"a damaged certificate":  pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}}),
		"no root":                cross,
		"two cross certificates": append(good.Encode(), cross...),
		"two roots":              append(rootrotation.Proposal{New: old.Certificate()}.Encode(), good.Encode()...),
		"a megabyte":             bytes.Repeat(good.Encode(), 1000),
		"text after it":          append(good.Encode(), "hello"...),
	} {
		if read, err := rootrotation.ParseProposal(data); err == nil {
			t.Errorf("%s was read as %+v", name, read)
		}
	}
}
