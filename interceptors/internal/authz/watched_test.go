package authz

import (
	"strings"
	"testing"
	"time"
)

// bindingsFor returns a bindings file with one member, which makes each a content of its own.
func bindingsFor(name string) string {
	return "trustDomain: mesh.local\nbindings:\n  - role: ledger.reader\n    members: [spiffe://mesh.local/service/" + name + "]\n"
}

// applied is one call of apply.
type applied struct {
	bindings *Bindings
	err      error
}

func (a applied) String() string {
	if a.err != nil {
		return "error " + a.err.Error()
	}
	return a.bindings.Bindings[0].Members[0].Text
}

// watched is a file under watch, and what was applied.
type watched struct {
	t     *testing.T
	path  string
	file  *File
	calls chan applied
}

// watchTest watches a file until the test ends.
func watchTest(t *testing.T, path string, interval time.Duration) *watched {
	t.Helper()
	w := &watched{t: t, path: path, calls: make(chan applied, 100)}
	file, bindings, err := WatchFile(path, interval, func(b *Bindings, err error) { w.calls <- applied{b, err} })
	if err != nil {
		t.Fatalf("watch %s: %v", path, err)
	}
	t.Cleanup(func() {
		if err := file.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	if err := file.Unwatched(); err != nil {
		t.Skipf("this system gives no watch: %v", err)
	}
	if bindings == nil {
		t.Fatal("no bindings from the first read")
	}
	w.file = file
	return w
}

// next waits for the next call of apply.
func (w *watched) next(text string) applied {
	w.t.Helper()
	start := time.Now()
	select {
	case got := <-w.calls:
		w.t.Logf("%v after %s", got, time.Since(start).Round(time.Millisecond))
		return got
	case <-time.After(10 * time.Second):
		w.t.Fatalf("nothing applied in 10 s, want %q", text)
		return applied{}
	}
}

// want waits for the next call of apply, which must say text.
func (w *watched) want(text string) {
	w.t.Helper()
	if got := w.next(text); !strings.Contains(got.String(), text) {
		w.t.Fatalf("applied %v, want %q", got, text)
	}
}

// wantInTheEnd waits for a call that says text, after errors only: a file that is not replaced at once may be seen
// while it is empty.
func (w *watched) wantInTheEnd(text string) {
	w.t.Helper()
	got := w.next(text)
	for got.err != nil {
		got = w.next(text)
	}
	if !strings.Contains(got.String(), text) {
		w.t.Fatalf("applied %v, want %q", got, text)
	}
}
