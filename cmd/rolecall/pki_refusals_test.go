package main

import (
	"os"
	"strings"
	"testing"

	"example.com/rolecall/internal/cli"
)

// Each refusal says the reason, and what to do next where that is known. A word that starts with @ is a file of the test.
func TestPKIRefusesWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	o := newOffline(t)
	o.withIssuer()
	o.must("pki init --root @other --trust-domain other.example --passphrase-file @pass")
	o.must("pki init --root @stranger --trust-domain mesh.local --passphrase-file @pass")
	o.must("pki csr --id spiffe://mesh.local/service/a --key @a.key --out @a.csr")
	o.must("pki csr --id spiffe://other.example/service/a --key @a.key --out @foreign.csr")
	o.must("pki issue --id spiffe://mesh.local/service/b --cert @b.crt --key @b.key --ca @ca")
	o.must("pki issuer csr --ca @ca --out @2.csr")
	o.must("pki issuer sign --root @stranger --csr @2.csr --out @2.crt --passphrase-file @pass")
	o.write("short", "short\n", 0o600)
	o.write("wrong", "another passphrase\n", 0o600)
	o.write("empty", "\n", 0o600)
	o.write("lines", passphrase+"\nmore\n", 0o600)
	o.write("open", passphrase+"\n", 0o644)
	o.write("text", "hello\n", 0o644)
	o.write("full", "x", 0o644)
	o.write("open.key", "x", 0o644)
	data, err := os.ReadFile(o.path("2.csr"))
	if err != nil {
		t.Fatal(err)
	}
	o.write("two.csr", string(data)+string(data), 0o644)
	o.write("big", strings.Repeat("x", maxInput+1), 0o644)

	const failed, usage = cli.ExitFailed, cli.ExitUsage
	for _, test := range []struct {
		line, stdin string
		code        int
		want        string
	}{
		// The root.
		{"pki init --root @new --trust-domain Mesh.Local --passphrase-file @pass", "", usage, "--trust-domain"},
		{"pki init --root @new --trust-domain mesh.local --life 1s --passphrase-file @pass", "", usage, "--life 1s"},
		{"pki init --root @root --trust-domain mesh.local --passphrase-file @pass", "", failed, "never overwritten"},
		{"pki init --root @new --trust-domain mesh.local --passphrase-file @short", "", failed, "fewer than 12 bytes"},
		{"pki init --root @new --trust-domain mesh.local --passphrase-file @empty", "", failed, "no passphrase"},
		{"pki init --root @new --trust-domain mesh.local --passphrase-file @lines", "", failed, "more than one line"},
		{"pki init --root @new --trust-domain mesh.local --passphrase-file @open", "", failed, "chmod 600"},
		{"pki init --root @new --trust-domain mesh.local --passphrase-file @none", "", failed, "no such file"},
		{"pki init --root @new --trust-domain mesh.local --passphrase-file -", "", failed, "no passphrase"},
		{"pki init --root @new --trust-domain mesh.local --passphrase-file -", strings.Repeat("x", 2000), failed, "more than 1024 bytes"},
		{"pki init --root @new --trust-domain mesh.local", passphrase, usage, "no terminal"},
		// The request for an issuer, and the signature.
		{"pki issuer csr --ca @none", "", failed, "--trust-domain"},
		{"pki issuer csr --ca @ca --trust-domain other.example", "", failed, "mesh.local"},
		{"pki issuer sign --root @none --csr @2.csr", "", failed, "rolecall pki init"},
		{"pki issuer sign --root @root --csr @2.csr --passphrase-file @wrong", "", failed, "passphrase"},
		{"pki issuer sign --root @root --csr @2.csr", passphrase, usage, "no terminal"},
		{"pki issuer sign --root @root --csr @2.csr --ttl 1m --passphrase-file @pass", "", usage, "--ttl 1m0s"},
		{"pki issuer sign --root @root --csr @2.csr --ttl 9000h --passphrase-file @pass", "", usage, "--ttl 9000h"},
		{"pki issuer sign --root @root --csr - --passphrase-file -", "", usage, "only one of them"},
		{"pki issuer sign --root @root --csr @a.csr --passphrase-file @pass", "", failed, "rolecall pki issuer csr"},
		{"pki issuer sign --root @other --csr @2.csr --passphrase-file @pass", "", failed, "mesh.local"},
		{"pki issuer sign --root @root --csr @issuer.crt --passphrase-file @pass", "", failed, "holds a CERTIFICATE and not a CERTIFICATE REQUEST"},
		{"pki issuer sign --root @root --csr @two.csr --passphrase-file @pass", "", failed, "more than one"},
		{"pki issuer sign --root @root --csr @text --passphrase-file @pass", "", failed, "PKCS#10"},
		{"pki issuer sign --root @root --csr @big --passphrase-file @pass", "", failed, "neither a certificate nor a request"},
		// The import.
		{"pki issuer import --ca @ca @2.crt", "", failed, "root"}, // signed by a root that is not in the bundle
		{"pki issuer import --ca @ca @b.crt", "", failed, "more than one CERTIFICATE"},
		{"pki issuer import --ca @ca @root/root.crt", "", failed, "is a root"},
		{"pki issuer import --ca @ca @2.csr", "", failed, "holds a CERTIFICATE REQUEST and not a CERTIFICATE"},
		{"pki issuer import --ca @ca @text", "", failed, "not a certificate"},
		{"pki issuer import --ca @ca --bundle @other/root.crt @2.crt", "", failed, "other.example"},
		{"pki issuer import --ca @ca --bundle @stranger/root.crt @2.crt", "", failed, "other roots"},
		// The turn of an issuer.
		{"pki issuer activate x --ca @ca", "", usage, "pki issuer list"},
		{"pki issuer activate 7 --ca @ca", "", failed, "there is no issuer 7"},
		{"pki issuer revoke 1 --ca @ca", "", usage, "reason"},
		{"pki issuer revoke 7 --reason why --ca @ca", "", failed, "there is no issuer 7"},
		{"pki issuer revoke 1 --reason why --ca @ca --root @root", "", usage, "--crl"},
		{"pki issuer revoke 1 --reason why --ca @ca2 --crl @crl.pem", "", failed, "ca2"},
		// Certificates.
		{"pki issue --csr @foreign.csr --cert @x.crt --ca @ca", "", failed, "not of the trust domain mesh.local"},
		{"pki issue --csr @2.csr --cert @x.crt --ca @ca", "", failed, "Subject"},
		{"pki issue --csr @a.csr --key @x.key --cert @x.crt --ca @ca", "", usage, "csr key"},
		{"pki issue --csr @a.csr --dns x --cert @x.crt --ca @ca", "", usage, "csr dns"},
		{"pki issue --id spiffe://mesh.local/a --cert @x.crt --ca @ca", "", usage, "--key FILE is needed"},
		{"pki csr --id spiffe://mesh.local --key @x.key", "", usage, "--id"},
		{"pki csr --id spiffe://mesh.local/a --key @x.key --dns *.mesh", "", usage, "the authority would refuse"},
		{"pki csr --id spiffe://mesh.local/a --key @text", "", failed, "chmod 600"},
		{"pki csr --id spiffe://mesh.local/a --key @empty", "", failed, "not one key in PEM"},
		{"pki csr --id spiffe://mesh.local/a --key @x.pem --out @x.pem", "", usage, "two files"},
		{"pki ticket a/b --ca @ca --out @t.ticket", "", usage, "segment"},
		{"pki ticket host2 --ca @ca --out @full", "", failed, "is there already"},
		{"pki bundle --ca @ca --format der", "", usage, "pem, spiffe"},
		// The replacement of a root.
		{"pki root rotate activate --ca @ca", "", failed, "rotate prepare"},
		{"pki root rotate retire --ca @ca", "", failed, "rotate prepare"},
		{"pki root rotate prepare --ca @ca", "", usage, "--import"},
		{"pki root rotate prepare --ca @ca --root @root", "", usage, "--new-root"},
		{"pki root rotate prepare --ca @ca --import @text", "", failed, "certificates in PEM"},
		{"pki root rotate prepare --ca @ca --import @root/root.crt", "", failed, "root"},
		{"pki root rotate prepare --root @root --new-root @root --out @p.pem --passphrase-file @pass --new-passphrase-file @pass", "", failed, "the same"},
		{"pki root rotate prepare --root @root --new-root @other --out @p.pem --passphrase-file @pass --new-passphrase-file @pass", "", failed, "trust domain"},
		{"pki root rotate prepare --root @root --new-root @stranger --out @p.pem --passphrase-file - --new-passphrase-file -", "", usage, "only one of them"},
		{"pki root rotate prepare --root @root --out @p.pem --passphrase-file @pass", "", usage, "--new-root"},
		{"pki root rotate prepare --root @root --root-lost --out @p.pem", "", usage, "root-lost"},
		{"pki root rotate retire --ca @ca --without spiffe://mesh.local/a", "", usage, "reason"},
		{"pki root rotate retire --ca @ca --authority a,spiffe://mesh.local/a", "", usage, "bundle"},
		{"pki root rotate retire --ca @ca --timeout 0s", "", usage, "--timeout"},
	} {
		t.Run(test.line, func(t *testing.T) {
			o := &offline{t: t, dir: o.dir}
			code, stdout, stderr := o.run(test.stdin, test.line)
			if code != test.code || !strings.Contains(stderr, test.want) {
				t.Errorf("code %d, %q, %q; want %d and something with %q", code, stdout, stderr, test.code, test.want)
			}
		})
	}
	for _, name := range []string{"new", "x.key", "x.crt", "x.pem", "p.pem", "crl.pem", "t.ticket", "none"} {
		if exists(o.path(name)) {
			t.Errorf("a refused command has left %s behind", name)
		}
	}
}
