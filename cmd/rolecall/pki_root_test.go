package main

import (
	"strings"
	"testing"

	"example.com/rolecall/internal/cli"
	"example.com/rolecall/pki"
)

// says checks that all of the texts are in what a command said.
func (o *offline) says(what, text string, wants ...string) {
	o.t.Helper()
	for _, want := range wants {
		if !strings.Contains(text, want) {
			o.t.Errorf("%s: %q is missing in:\n%s", what, want, text)
		}
	}
}

func TestANewRootIsCarriedToTheAuthority(t *testing.T) {
	t.Parallel()
	o := newOffline(t)
	o.withIssuer()
	o.must("pki init --root @new --trust-domain mesh.local --passphrase-file @pass")

	proposed := o.must("pki root rotate prepare --root @root --new-root @new --passphrase-file @pass --new-passphrase-file @pass --out @new.pem")
	o.says("prepare --out", proposed, "--import", "SHA-256")
	prepared := o.must("pki root rotate prepare --ca @ca --import @new.pem")
	o.says("prepare --import", prepared, "with a cross certificate", "rolecall pki bundle --ca", "rotate activate --ca")
	_, digest, _ := strings.Cut(prepared, "SHA-256 ")
	o.says("the SHA-256 on both machines", proposed, strings.Fields(digest)[0])
	o.must("pki root rotate prepare --ca @ca --import @new.pem") // again is no error
	o.says("status", o.must("pki root rotate status --ca @ca"), "PREPARED", "is not known", "--authority")

	// Without an issuer of the new root nothing could be signed.
	if code, _, stderr := o.run("", "pki root rotate activate --ca @ca"); code != cli.ExitFailed || !strings.Contains(stderr, "rolecall pki issuer") {
		t.Errorf("activate without an issuer of the new root: code %d, %s", code, stderr)
	}
	o.must("pki issuer csr --ca @ca --out @2.csr")
	o.must("pki issuer sign --root @new --csr @2.csr --out @2.crt --passphrase-file @pass")
	o.says("import", o.must("pki issuer import --ca @ca @2.crt"), "PREPARED", "rotate activate")
	o.says("activate", o.must("pki root rotate activate --ca @ca"), "the new root signs", "rotate retire --ca")
	o.must("pki root rotate activate --ca @ca")
	o.says("prepare when it signs already", o.must("pki root rotate prepare --ca @ca --import @new.pem"), "signs already")

	o.must("pki issue --id spiffe://mesh.local/operator/dave --cert @dave.crt --key @dave.key --ca @ca")
	chain, err := o.read("dave.crt")
	if err != nil || strings.Count(chain, "BEGIN CERTIFICATE") != 3 {
		t.Errorf("a chain while the root is being replaced has leaf, issuer and cross certificate: %v\n%s", err, chain)
	}
	if code, _, stderr := o.run("", "pki root rotate retire --ca @ca"); code != cli.ExitUsage || !strings.Contains(stderr, "--authority") {
		t.Errorf("retire without anybody to ask: code %d, %s", code, stderr)
	}
	bundle, err := pki.ReadBundle(o.path("ca/bundle.pem"))
	if err != nil || len(bundle.X509Authorities()) != 2 {
		t.Errorf("the bundle after a refused step: %v, %v", bundle, err)
	}
}

func TestWithTheOldKeyLostTheNewRootWaitsUntilEverybodyHasIt(t *testing.T) {
	t.Parallel()
	o := newOffline(t)
	o.withIssuer()
	o.must("pki init --root @new --trust-domain mesh.local --passphrase-file @pass")
	o.must("pki root rotate prepare --root-lost --new-root @new --new-passphrase-file @pass --out @new.pem")
	o.says("prepare", o.must("pki root rotate prepare --ca @ca --import @new.pem"), "without a cross certificate")
	if code, _, stderr := o.run("", "pki root rotate activate --ca @ca --new-root @new --new-passphrase-file @pass"); code != cli.ExitUsage || !strings.Contains(stderr, "nobody can be asked") {
		t.Errorf("activate without anybody to ask: code %d, %s", code, stderr)
	}
	issuers, err := pki.OpenIssuers(o.path("ca"), nil)
	if err != nil || issuers.Rotation().Phase != pki.RotationPrepared {
		t.Errorf("after a refused step: %q, %v", issuers.Rotation().Phase, err)
	}
}

func TestBothRootsAtHandTakeOneCommandForEachStep(t *testing.T) {
	t.Parallel()
	o := newOffline(t)
	o.withIssuer()
	o.must("pki init --root @new --trust-domain mesh.local --passphrase-file @pass")
	o.must("pki root rotate prepare --ca @ca --root @root --new-root @new --passphrase-file @pass --new-passphrase-file @pass")
	o.says("activate", o.must("pki root rotate activate --ca @ca --new-root @new --new-passphrase-file @pass"), "the new root signs")
	o.says("list", o.must("pki issuer list --ca @ca"), "ACTIVE", "RETIRING")
}
