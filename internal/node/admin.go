package node

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"sync/atomic"
	"time"
)

// admin serves what an operator's own machine may see: no TLS, so a loopback address only.
type admin struct {
	listener net.Listener // nil: not served
	server   *http.Server
	failed   chan error
	done     chan struct{}
	ready    atomic.Bool
}

func (n *Node) openAdmin(ctx context.Context, metrics *metrics) (*admin, error) {
	a := &admin{failed: make(chan error, 1), done: make(chan struct{})}
	if n.config.Admin == "" {
		return a, nil
	}
	var err error
	if a.listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", n.config.Admin); err != nil {
		return nil, fmt.Errorf("listen on admin address %s: %w", n.config.Admin, err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) { n.readiness(r.Context(), a.ready.Load()).write(w) })
	mux.Handle("GET /metrics", metrics.handler)
	if n.config.Pprof {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("POST /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	a.server = &http.Server{
		Handler:           onlyLoopbackHosts(mux),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		BaseContext:       func(net.Listener) context.Context { return n.background },
	}
	go func() {
		defer close(a.done)
		a.failed <- a.server.Serve(a.listener)
	}()
	return a, nil
}

func (a *admin) address() string {
	if a.listener == nil {
		return ""
	}
	return a.listener.Addr().String()
}

// close ends what is still asked for at once: nothing here is worth waiting for.
func (a *admin) close() {
	if a.server == nil {
		return
	}
	_ = a.server.Close()
	<-a.done
}

// checkLoopback refuses an admin address that other machines can reach.
func checkLoopback(address string) error {
	if address == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("admin address %q: %w", address, err)
	}
	if !isLoopback(host) {
		return fmt.Errorf("admin address %q is not on the loopback interface: /readyz and /metrics have no TLS and ask nobody who they are; use 127.0.0.1 or [::1]", address)
	}
	return nil
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// onlyLoopbackHosts refuses requests that a browser was led to send here by a foreign name that resolves to 127.0.0.1.
func onlyLoopbackHosts(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if !isLoopback(host) {
			http.Error(w, "the admin address answers to loopback names only", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}
