package demo

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/mesh"
)

func TestALedgerThatDoesNotAnswerIsNotTakenForOneWithOtherBindings(t *testing.T) {
	t.Parallel()
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(hangs.Close)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = listener.Close()
	answered, enough := context.WithTimeout(t.Context(), patience)
	t.Cleanup(enough)
	var asked atomic.Bool
	older := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Swap(true) {
			enough() // the first answer has been read
		}
		_, _ = w.Write([]byte(`{"policy": {"version": "older"}}`))
	}))
	t.Cleanup(older.Close)
	soon, cancel := context.WithTimeout(t.Context(), time.Second)
	t.Cleanup(cancel)
	for _, test := range []struct {
		name, admin, want string
		ctx               context.Context
	}{
		{"it hangs", hangs.Listener.Addr().String(), "does not answer", soon},
		{"it is gone", listener.Addr().String(), "does not answer", soon},
		{"it goes by other bindings", older.Listener.Addr().String(), `but by version "older"`, answered},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			tour := &tour{file: &mesh.File{}, ledger: mesh.Service{Name: "ledger", Admin: test.admin}, policy: &interceptors.Policy{Version: "newer"}}
			if err := tour.inForce(test.ctx); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("inForce: %v, want %q in it", err, test.want)
			}
		})
	}
}
