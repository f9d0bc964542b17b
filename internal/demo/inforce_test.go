package demo

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
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
	older := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"policy": {"version": "older"}}`))
	}))
	t.Cleanup(older.Close)
	for _, test := range []struct{ name, admin, want string }{
		{"it hangs", hangs.Listener.Addr().String(), "does not answer"},
		{"it is gone", listener.Addr().String(), "does not answer"},
		{"it goes by other bindings", older.Listener.Addr().String(), `but by version "older"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			tour := &tour{file: &mesh.File{}, ledger: mesh.Service{Name: "ledger", Admin: test.admin}, policy: &interceptors.Policy{Version: "newer"}}
			if err := tour.inForce(ctx); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("inForce: %v, want %q in it", err, test.want)
			}
		})
	}
}
