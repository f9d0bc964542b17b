package pki

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
)

func TestATokenIsGoodForItsAudienceAndFiveMinutes(t *testing.T) {
	t.Parallel()
	now := time.Now()
	issuers := withJWTKeyInMemory(t, memoryIssuers(t, func() time.Time { return now }))
	id := workload(t, "/service/ledger")
	token, expires, err := issuers.IssueJWT(id, []string{"orders", "https://api.mesh.local"})
	must(t, err)
	if left := expires.Sub(now); left < maxTokenLife-time.Second || left > maxTokenLife+time.Second { // whole seconds
		t.Errorf("the token lives %s, want 5 minutes", left)
	}
	svid, err := jwtsvid.ParseAndValidate(token, issuers.JWTBundle(), []string{"orders"})
	must(t, err)
	if svid.ID != id || !svid.Expiry.Equal(expires) || !slices.Equal(svid.Audience, []string{"orders", "https://api.mesh.local"}) {
		t.Errorf("the token says %s, %v, %s", svid.ID, svid.Audience, svid.Expiry)
	}
	var header map[string]string
	part, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[0])
	must(t, err)
	must(t, json.Unmarshal(part, &header))
	kid := slices.Collect(maps.Keys(issuers.JWTBundle().JWTAuthorities()))
	// JWT-SVID §2: no header but these.
	if diff := cmp.Diff(map[string]string{"alg": "ES256", "kid": kid[0], "typ": "JWT"}, header); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
	for _, c := range []struct {
		attack string
		token  string
	}{
		{"another audience", token},
		{"a signature of somebody else", token[:len(token)-10] + strings.Repeat("A", 10)},
		{"no signature (alg none)", base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","kid":"`+kid[0]+`"}`)) + "." + strings.Split(token, ".")[1] + "."},
	} {
		audience := []string{"orders"}
		if c.attack == "another audience" {
			audience[0] = "billing"
		}
		if _, err := jwtsvid.ParseAndValidate(c.token, issuers.JWTBundle(), audience); err == nil {
			t.Errorf("%s: accepted", c.attack)
		}
	}
}

func TestTokensThatAreRefused(t *testing.T) {
	t.Parallel()
	issuers := withJWTKeyInMemory(t, memoryIssuers(t, nil))
	id := workload(t, "/service/ledger")
	for _, c := range []struct {
		attack   string
		id       spiffeid.ID
		audience []string
		want     string
	}{
		{"an ID of another trust domain", spiffeid.RequireFromString("spiffe://a.mesh.local/service/ledger"), []string{"a"}, "not the ID of a workload of the trust domain mesh.local"},
		{"an ID without a path", testDomain.ID(), []string{"a"}, "not the ID of a workload"},
		{"no ID", spiffeid.ID{}, []string{"a"}, "not the ID of a workload"},
		{"no audience", id, nil, "0 audiences"},
		{"an empty audience", id, []string{"a", ""}, "1 to 512 bytes"},
		{"nine audiences", id, slices.Repeat([]string{"a"}, 9), "9 audiences"},
		{"an audience of 513 bytes", id, []string{strings.Repeat("a", 513)}, "1 to 512 bytes"},
		{"an audience that is not UTF-8", id, []string{"a\xff"}, "UTF-8"},
	} {
		if token, _, err := issuers.IssueJWT(c.id, c.audience); err == nil || token != "" || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: token %q, error %v; want a refusal with %q", c.attack, token, err, c.want)
		}
	}
	if _, _, err := issuers.IssueJWT(id, slices.Repeat([]string{strings.Repeat("a", 512)}, 8)); err != nil {
		t.Errorf("eight audiences of 512 bytes: %v", err)
	}
	if _, _, err := memoryIssuers(t, nil).IssueJWT(id, []string{"a"}); err == nil || !strings.Contains(err.Error(), "no JWT key is valid") {
		t.Errorf("without a key: %v, want a refusal", err)
	}
}

// jwtKeys describes the keys in a bundle and the one that signs: "1 2, 1 signs".
func jwtKeys(s *Issuers) string {
	var shown []string
	bundle := s.JWTBundle()
	for _, k := range s.state.Load().jwt.keys {
		if bundle.HasJWTAuthority(k.id) {
			shown = append(shown, fmt.Sprint(k.generation))
		}
	}
	active := s.state.Load().jwt.active(s.now())
	if active == nil {
		return strings.Join(shown, " ") + ", none signs"
	}
	return fmt.Sprintf("%s, %d signs", strings.Join(shown, " "), active.generation)
}

// rotateInMemory does what RotateJWT does, without files: encrypting keys takes long on purpose.
func rotateInMemory(t *testing.T, s *Issuers) {
	t.Helper()
	next := *s.state.Load()
	gone := next.jwt.surplus(s.now())
	next.jwt.keys = slices.DeleteFunc(slices.Clone(next.jwt.keys), func(k *jwtKey) bool { return slices.Contains(gone, k) })
	s.state.Store(&next)
	if next.jwt.due(s.now()) {
		withJWTKeyInMemory(t, s)
	}
}

func TestJWTKeysRotateByTheWallClock(t *testing.T) {
	t.Parallel()
	now := recordDay
	s := memoryIssuers(t, func() time.Time { return now })
	day := 24 * time.Hour
	for _, step := range []struct {
		name  string
		after time.Duration
		want  string
	}{
		{"at the start", 0, "1, 1 signs"},
		{"soon after", time.Hour, "1, 1 signs"},
		{"at half of its life: the next is published and signs nothing yet", 84*time.Hour + time.Minute, "1 2, 1 signs"},
		{"at 5/6 of its life: the next signs", 140*time.Hour + time.Minute, "1 2, 2 signs"},
		{"at its end: it is gone, and half of the next one's life is over", 7*day + time.Minute, "2 3, 2 signs"},
		{"the clock an hour back: as it was, less what was deleted", 7*day - 59*time.Minute, "2 3, 2 signs"},
		{"a month asleep: all have expired, a new one signs at once", 40 * day, "1, 1 signs"},
		{"the clock two days ahead: nothing is due", 42 * day, "1, 1 signs"},
		{"the clock two days back again", 40 * day, "1, 1 signs"},
		{"the clock back before the only key began: another is made", 39 * day, "1 2, 2 signs"},
		{"and right again", 40 * day, "1 2, 1 signs"},
	} {
		now = recordDay.Add(step.after)
		for range 3 { // often is as good as once
			rotateInMemory(t, s)
		}
		if got := jwtKeys(s); got != step.want {
			t.Errorf("%s: %s, want %s", step.name, got, step.want)
		}
	}
	for ago := range 20 * 24 { // a clock that goes back for weeks
		now = recordDay.Add(100*day - time.Duration(ago)*time.Hour)
		rotateInMemory(t, s)
	}
	if n := len(s.state.Load().jwt.keys); n > keptJWTKeys+1 { // and the one that was made last
		t.Errorf("%d keys pile up, at most %d are kept", n, keptJWTKeys+1)
	}
	if s.state.Load().jwt.active(now) == nil {
		t.Error("no key signs after the clock went back for weeks")
	}
}

func TestTwoProcessesMakeOneJWTKeyAndBothUseIt(t *testing.T) {
	t.Parallel()
	dir := authorityAt(t, time.Now())
	processes := make([]*Issuers, 2)
	errs := make(chan error, len(processes))
	var running sync.WaitGroup
	for n := range processes {
		var err error
		processes[n], err = OpenIssuers(dir, nil)
		must(t, err)
		running.Go(func() { errs <- processes[n].RotateJWT() })
	}
	running.Wait()
	close(errs)
	for err := range errs {
		must(t, err)
	}
	if paths, err := filepath.Glob(filepath.Join(dir, jwtDir, "*")); err != nil || len(paths) != 1 {
		t.Errorf("files %q (error %v), want one key", paths, err)
	}
	for _, s := range processes {
		must(t, s.Refresh())
	}
	token, _, err := processes[0].IssueJWT(workload(t, "/service/ledger"), []string{"orders"})
	must(t, err)
	if _, err := jwtsvid.ParseAndValidate(token, processes[1].JWTBundle(), []string{"orders"}); err != nil {
		t.Errorf("a token of the one, checked with the bundle of the other: %v", err)
	}
}

func TestATokenNeverOutlivesAShortKey(t *testing.T) {
	t.Parallel()
	now := recordDay
	key, err := NewKey()
	must(t, err)
	signer, id, err := newTokenSigner(key)
	must(t, err)
	issuers := memoryIssuers(t, func() time.Time { return now })
	next := *issuers.state.Load()
	short := &jwtKey{generation: 1, id: id, key: key, signer: signer, notBefore: now, notAfter: now.Add(2 * time.Minute)}
	next.jwt = jwtState{keys: []*jwtKey{short}}
	issuers.state.Store(&next)
	for _, c := range []struct{ at, want time.Duration }{{0, 20 * time.Second}, {100 * time.Second, 20 * time.Second}, {115 * time.Second, 5 * time.Second}} {
		now = recordDay.Add(c.at)
		_, expires, err := issuers.IssueJWT(workload(t, "/service/ledger"), []string{"a"})
		if err != nil || expires.Sub(now) != c.want {
			t.Errorf("after %s of 2 minutes: a token of %s, error %v; want %s", c.at, expires.Sub(now), err, c.want)
		}
	}
}

func TestAttacksOnAJWTKeyFile(t *testing.T) {
	t.Parallel()
	issuers := withJWTKeyInMemory(t, memoryIssuers(t, nil))
	pair := issuers.state.Load().jwt.keys[0]
	sealed, err := issuers.sealKey(pair.key)
	must(t, err)
	good, err := encodeJWTKey(pair, sealed)
	must(t, err)
	for _, form := range forms(t, pair.key) {
		if bytes.Contains(good, []byte(form)) {
			t.Error("the file holds the private key in the clear")
		}
	}
	pair = withJWTKeyInMemory(t, memoryIssuers(t, nil)).state.Load().jwt.keys[0]
	foreign, err := encodeJWTKey(pair, nil)
	must(t, err)
	private, public, _ := strings.Cut(string(good), "-----BEGIN PUBLIC KEY-----")
	public = "-----BEGIN PUBLIC KEY-----" + public
	times, key, _ := strings.Cut(private, "-----BEGIN")
	key = "-----BEGIN" + key
	lines := strings.Split(times, "\n")
	swapped := strings.Replace(lines[1], "After", "Before", 1) + "\n" + strings.Replace(lines[0], "Before", "After", 1) + "\n"
	for _, c := range []struct {
		attack, data string
		mode         os.FileMode
		want         string
	}{
		{"file mode 0644", string(good), 0o644, "has mode 0644"},
		{"a truncated key", private[:len(private)-60] + "\n" + public, 0o600, "0001.pem"},
		{"no times", key + public, 0o600, "does not begin with the times"},
		{"a time that is none", strings.Replace(string(good), "Not-After: 2", "Not-After: ", 1), 0o600, "times of the key"},
		{"an end before the start", swapped + key + public, 0o600, "ends before it starts"},
		{"the public key of another", private + string(foreign[bytes.Index(foreign, []byte("-----BEGIN PUBLIC")):]), 0o600, "the key is not that of"},
		{"no public key", private, 0o600, "no public key"},
		{"an empty file", "", 0o600, "no public key"},
	} {
		t.Run(c.attack, func(t *testing.T) {
			t.Parallel()
			if runtime.GOOS == "windows" && c.mode != 0o600 {
				t.Skip("modes mean nothing on Windows")
			}
			reader := memoryIssuers(t, nil)
			path := reader.jwtPath(1)
			must(t, os.Mkdir(filepath.Dir(path), 0o700))
			must(t, os.WriteFile(path, []byte(c.data), c.mode))
			must(t, os.Chmod(path, c.mode)) // whatever the umask
			if err := reader.loadJWT(&issuersState{}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("loadJWT: %v, want a refusal with %q", err, c.want)
			}
		})
	}
	reader := memoryIssuers(t, nil)
	must(t, os.Mkdir(filepath.Join(reader.dir, jwtDir), 0o700))
	must(t, os.WriteFile(reader.jwtPath(1), good, 0o600))
	must(t, os.WriteFile(reader.credential, []byte("another credential\n"), 0o600))
	if err := reader.loadJWT(&issuersState{}); !errors.Is(err, ErrPassphrase) {
		t.Errorf("another credential: %v, want ErrPassphrase", err)
	}
}
