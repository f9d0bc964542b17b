package authority

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"example.com/rolecall/internal/node"
)

// Bounds of the bundle endpoint, which answers to anybody.
const (
	endpointConnections = 256
	endpointTimeout     = 10 * time.Second // for a handshake and a request, and again for the answer
	endpointIdle        = 30 * time.Second
	endpointHeader      = 8 << 10 // bytes
)

// openEndpoint serves the bundle to other trust domains (SPIFFE Trust Domain and Bundle §5.2, profile https_spiffe): the
// server shows the authority's own SVID, by which the client knows it, and asks nobody for a certificate.
func (a *Authority) openEndpoint(ctx context.Context, n *node.Node) error {
	if a.config.Endpoint == "" {
		return nil
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", a.config.Endpoint)
	if err != nil {
		return fmt.Errorf("bundle endpoint: listen on %s: %w", a.config.Endpoint, err)
	}
	a.endpoint = listener.Addr().String()
	server := &http.Server{
		Handler:           http.HandlerFunc(a.serveBundle),
		ReadHeaderTimeout: endpointTimeout,
		ReadTimeout:       endpointTimeout,
		WriteTimeout:      endpointTimeout,
		IdleTimeout:       endpointIdle,
		MaxHeaderBytes:    endpointHeader,
		ErrorLog:          slog.NewLogLogger(a.log.With("what", "bundle endpoint").Handler(), slog.LevelDebug), // anybody can make it write
	}
	tlsConfig := &tls.Config{
		MinVersion:             tls.VersionTLS13,
		GetCertificate:         a.endpointCertificate,
		NextProtos:             []string{"http/1.1"},
		SessionTicketsDisabled: true,
	}
	limited := &limitedListener{Listener: listener, places: make(chan struct{}, endpointConnections), closed: make(chan struct{})}
	n.Go(func(ctx context.Context) {
		defer context.AfterFunc(ctx, func() { _ = server.Close() })()
		if err := server.Serve(tls.NewListener(limited, tlsConfig)); !errors.Is(err, http.ErrServerClosed) {
			a.log.Error("the bundle endpoint ended by itself; other trust domains see no new bundle until the authority is started again", "error", err)
		}
	})
	a.log.Info("bundle endpoint", "address", a.endpoint, "profile", "https_spiffe")
	return nil
}

// EndpointAddr returns the host:port of the bundle endpoint once Setup has returned, "" without one.
func (a *Authority) EndpointAddr() string { return a.endpoint }

func (a *Authority) endpointCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	svid, err := a.source.GetX509SVID()
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: raw(svid.Certificates), PrivateKey: svid.PrivateKey, Leaf: svid.Certificates[0]}, nil
}

// serveBundle answers GET / with the present bundle document.
func (a *Authority) serveBundle(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path != "/":
		http.NotFound(w, r)
	case r.Method != http.MethodGet:
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "only GET is answered", http.StatusMethodNotAllowed)
	default:
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write(a.current.Load().document) // the only error is a client that left
	}
}

// limitedListener lets so many connections be open at a time; the next waits.
type limitedListener struct {
	net.Listener
	places chan struct{}
	closed chan struct{}
	once   sync.Once
}

func (l *limitedListener) Accept() (net.Conn, error) {
	select {
	case l.places <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.places
		return nil, err
	}
	return &limitedConn{Conn: conn, places: l.places}, nil
}

func (l *limitedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// limitedConn gives its place back when it is closed.
type limitedConn struct {
	net.Conn
	places chan struct{}
	once   sync.Once
}

func (c *limitedConn) Close() error {
	defer c.once.Do(func() { <-c.places })
	return c.Conn.Close()
}
