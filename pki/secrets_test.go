package pki

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// forms are the ways in which a private key or a passphrase could show in text.
func forms(t *testing.T, secret any) []string {
	t.Helper()
	var raw []byte
	switch s := secret.(type) {
	case string:
		raw = []byte(s)
	case *ecdsa.PrivateKey:
		var err error
		raw, err = s.Bytes()
		must(t, err)
	default:
		t.Fatalf("a secret of type %T", secret)
	}
	out := []string{string(raw), hex.EncodeToString(raw), base64.StdEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(raw),
		new(big.Int).SetBytes(raw).String(), fmt.Sprint(raw)}
	// In base64 of something longer the first bytes can stand at any of three offsets.
	for skip := range 3 {
		whole := raw[skip : skip+(len(raw)-skip)/3*3]
		out = append(out, base64.StdEncoding.EncodeToString(whole))
	}
	return out
}

// TestKeysAndPassphrasesAreInNoLogErrorOrOpenFile goes through the life of a certificate authority with everything that
// is said and written recorded, and looks for its secrets.
func TestKeysAndPassphrasesAreInNoLogErrorOrOpenFile(t *testing.T) {
	t.Parallel()
	const passphrase, wrong = "correct horse battery staple", "incorrect donkey"
	dir := filepath.Join(t.TempDir(), "ca")
	var said bytes.Buffer
	say := func(values ...any) {
		for _, v := range values {
			fmt.Fprintf(&said, "%v\n%+v\n%#v\n", v, v, v)
			if text, err := json.Marshal(v); err == nil {
				said.Write(append(text, '\n'))
			}
		}
	}
	now := time.Now()
	clock := func() time.Time { return now }
	config := Config{TrustDomain: testDomain, IssuerLife: time.Hour, LeafLife: time.Minute, Passphrase: []byte(passphrase), Now: clock}
	ca, _, err := OpenOrCreate(dir, config)
	must(t, err)
	issuers := ca.issuers
	log := slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelDebug}))
	log.Info("configuration", "config", config, "passphrase", config.Passphrase)
	fmt.Fprintf(&said, "%v %+v %#v %s %x %d %q", config, config, config, config.Passphrase, config.Passphrase, config.Passphrase, config.Passphrase)
	say(config.Passphrase)
	now = now.Add(40 * time.Minute) // a successor is due, and logged
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ca.KeepRotated(ctx, log)
	must(t, issuers.RotateJWT())
	chain, err := issuers.IssueCredential(Leaf{ID: workload(t, "/service/ledger"), Life: time.Minute}, filepath.Join(dir, "credential.pem"))
	must(t, err)
	token, _, err := issuers.IssueJWT(workload(t, "/service/ledger"), []string{"orders"})
	must(t, err)
	log.Info("all of it", "ca", ca, "root", ca.root, "issuers", issuers, "state", issuers.state.Load(), "chain", chain)
	records, err := issuers.LiveRecords(now)
	must(t, err)
	say(ca.root, *ca.root, issuers.Status(), issuers.ActBy(), issuers.Rotation(), records)
	for _, issuer := range issuers.state.Load().issuers {
		say(issuer, *issuer)
	}
	for _, key := range issuers.state.Load().jwt.keys {
		say(key, *key)
	}

	rootKey, credential := filepath.Join(dir, "root", "root.key"), filepath.Join(dir, "authority", "credential")
	_, err = OpenRoot(filepath.Dir(rootKey), []byte(wrong))
	say(err)
	stored, err := os.ReadFile(credential)
	must(t, err)
	for _, path := range []string{rootKey, filepath.Join(dir, "authority", "issuers", "0001.pem"), filepath.Join(dir, "authority", "jwt", "0001.pem"),
		filepath.Join(dir, "credential.pem"), credential} {
		inspection, err := InspectFile(path, now)
		say(inspection, err)
		if inspection != nil {
			must(t, inspection.WriteText(&said))
		}
	}
	must(t, os.WriteFile(credential, []byte(wrong+"\n"), 0o600))
	_, err = OpenIssuers(filepath.Join(dir, "authority"), clock)
	say(err)

	secrets := map[string][]string{"the passphrase": forms(t, passphrase), "a wrong passphrase": forms(t, wrong),
		"the credential": forms(t, strings.TrimSpace(string(stored))), "a token": {token}}
	secrets["the root's key"] = forms(t, ca.root.key)
	for _, issuer := range issuers.state.Load().issuers {
		secrets[fmt.Sprint("the key of issuer ", issuer.Generation)] = forms(t, issuer.key)
	}
	secrets["the JWT key"] = forms(t, issuers.state.Load().jwt.keys[0].key)
	svid, err := ReadCredential(filepath.Join(dir, "credential.pem"))
	must(t, err)
	secrets["a leaf's key"] = forms(t, svid.PrivateKey)
	look := func(where, text string) {
		for what, forms := range secrets {
			for _, form := range forms {
				if at := strings.Index(text, form); at >= 0 {
					t.Errorf("%s is in %s: %.300q", what, where, text[max(0, at-150):])
				}
			}
		}
	}
	look("what was logged, printed or reported", said.String())
	// On disk: nothing but the credential file and a leaf's own key in the clear.
	must(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || path == credential || filepath.Base(path) == "credential.pem" {
			return err
		}
		data, err := os.ReadFile(path)
		look(entry.Name(), string(data))
		return err
	}))
	t.Logf("%d bytes said, %d secrets looked for", said.Len(), len(secrets))
}
