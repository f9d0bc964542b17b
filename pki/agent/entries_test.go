package agent

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

var testDomain = spiffeid.RequireTrustDomainFromString("mesh.local")

func TestEntriesAreReadStrictly(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, yaml, want string }{
		{"an empty file", "", ""},
		{"all selectors that every system knows", "entries: [{spiffeId: spiffe://mesh.local/service/x, selectors: ['unix:uid:1000', 'unix:gid:0'], dnsNames: [x], ipAddresses: ['::1']}]", ""},
		{"an unknown key", "entries: [{spiffeId: spiffe://mesh.local/x, selector: ['unix:uid:0']}]", "selector"},
		{"no selector", "entries: [{spiffeId: spiffe://mesh.local/x}]", "0 selectors"},
		{"another trust domain", "entries: [{spiffeId: spiffe://evil.local/x, selectors: ['unix:uid:0']}]", "not of the trust domain"},
		{"no path", "entries: [{spiffeId: spiffe://mesh.local, selectors: ['unix:uid:0']}]", "no path"},
		{"another kind of selector", "entries: [{spiffeId: spiffe://mesh.local/x, selectors: ['k8s:ns:x']}]", "is needed"},
		{"a uid by name", "entries: [{spiffeId: spiffe://mesh.local/x, selectors: ['unix:uid:root']}]", "unix:uid:root"},
		{"a uid with a leading zero", "entries: [{spiffeId: spiffe://mesh.local/x, selectors: ['unix:uid:010']}]", "leading zeros"},
		{"a short hash", "entries: [{spiffeId: spiffe://mesh.local/x, selectors: ['unix:sha256:abcd']}]", "64 hexadecimal"},
		{"a relative path", "entries: [{spiffeId: spiffe://mesh.local/x, selectors: ['unix:path:x']}]", "absolute path"},
		{"a bad address", "entries: [{spiffeId: spiffe://mesh.local/x, selectors: ['unix:uid:0'], ipAddresses: [localhost]}]", "not an IP address"},
		{"two documents", "entries: []\n---\nentries: []", "more than one"},
		{"a huge file", "#" + strings.Repeat("x", MaxEntriesFile), "larger than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := ParseEntries([]byte(c.yaml), testDomain)
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

func TestSelectorsLookAtTheFileThatAProcessRuns(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("which file a process runs is known on Linux only")
	}
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if own, err = filepath.EvalSymlinks(own); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(own)
	if err != nil {
		t.Fatal(err)
	}
	sum := fmt.Sprintf("%x", sha256.Sum256(data))
	sums := newChecksums()
	for _, c := range []struct {
		selector string
		want     bool
	}{
		{"unix:path:" + own, true},
		{"unix:path:/bin/sh", false},
		{"unix:sha256:" + sum, true},
		{"unix:sha256:" + strings.ToUpper(sum), true}, // from the second look on it is remembered
		{"unix:sha256:" + strings.Repeat("0", 64), false},
	} {
		selector, err := ParseSelector(c.selector)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := selector.fits(t.Context(), &look{peer: peer{process: process{pid: os.Getpid()}}, sums: sums}); got != c.want || err != nil {
			t.Errorf("%s: %v, %v; want %v", selector, got, err, c.want)
		}
	}
}

func TestSelectorsAreEvaluatedTheCheapFirst(t *testing.T) {
	t.Parallel()
	if !executablesKnown {
		t.Skip("which file a process runs is known on Linux only")
	}
	sum := strings.Repeat("0", 64)
	entries, err := ParseEntries([]byte("entries: [{spiffeId: spiffe://mesh.local/x, selectors: ['unix:sha256:"+sum+
		"', 'unix:path:/b', 'unix:gid:2', 'unix:path:/a', 'unix:uid:1']}]"), testDomain)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, selector := range entries[0].Selectors {
		got = append(got, selector.String())
	}
	if diff := cmp.Diff([]string{"unix:gid:2", "unix:uid:1", "unix:path:/b", "unix:path:/a", "unix:sha256:" + sum}, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

func FuzzParseEntries(f *testing.F) {
	f.Add([]byte("entries: [{spiffeId: spiffe://mesh.local/x, selectors: ['unix:uid:0']}]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		entries, err := ParseEntries(data, testDomain)
		for _, e := range entries {
			if err == nil && (len(e.Selectors) == 0 || e.ID.TrustDomain() != testDomain) {
				t.Errorf("accepted %+v", e)
			}
		}
	})
}
