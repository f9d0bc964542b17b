package identity

import (
	"container/list"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc/credentials"
)

const (
	handshakeTimeout = 10 * time.Second
	// maxHandshakes bounds the connections that have not shown a certificate yet.
	maxHandshakes = 1024
)

// Source is the own certificate and the bundles to verify peers with.
type Source interface {
	x509svid.Source
	x509bundle.Source
}

// Config is what credentials are made of. All functions must be safe for concurrent use.
type Config struct {
	Source Source
	// Now is the wall clock.
	Now func() time.Time
	// Opened is told of each connection before it is used and may still refuse it.
	Opened func(*Conn) error
	// Closed is told when a connection that was opened is closed.
	Closed func(*Conn)
	// Refused is told of each failed handshake.
	Refused func(remote net.Addr, err *HandshakeError)
}

// Server returns the transport credentials of a server. Whoever connects must show a certificate that a root of its
// trust domain's bundle vouches for.
func Server(cfg Config) credentials.TransportCredentials { return newServer(cfg) }

// Client returns the transport credentials of a client that talks to the one server with this ID.
func Client(cfg Config, serverID spiffeid.ID) credentials.TransportCredentials {
	return &client{cfg: cfg, serverID: serverID}
}

type server struct {
	cfg     Config
	pending pending
}

func newServer(cfg Config) *server { return &server{cfg: cfg, pending: pending{limit: maxHandshakes}} }

// pending holds the connections that are in the handshake, oldest first. When there are too many, the oldest is closed:
// an honest peer needs milliseconds, so whoever holds places without a word loses them first.
type pending struct {
	limit int
	mu    sync.Mutex
	conns list.List
}

func (p *pending) enter(raw net.Conn) *list.Element {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conns.Len() >= p.limit {
		_ = p.conns.Remove(p.conns.Front()).(net.Conn).Close()
	}
	return p.conns.PushBack(raw)
}

func (p *pending) leave(place *list.Element) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns.Remove(place) // does nothing for one that was pushed out
}

// ServerHandshake implements credentials.TransportCredentials.
func (s *server) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	place := s.pending.enter(raw)
	defer s.pending.leave(place)
	var found finding
	config := s.cfg.tlsConfig(&found)
	// RequireAnyClientCert leaves all verification to VerifyConnection, which also runs where crypto/tls would skip
	// its own; the pool of the operating system is never looked at.
	config.ClientAuth = tls.RequireAnyClientCert
	conn, info, err := s.cfg.finish(context.Background(), tls.Server(raw, config), &found)
	if err != nil {
		return s.refused(raw, classify(err), found.hello)
	}
	return conn, info, nil
}

func (s *server) refused(raw net.Conn, err *HandshakeError, hello bool) (net.Conn, credentials.AuthInfo, error) {
	_ = raw.Close()
	if !hello && errors.Is(err.Err, io.EOF) {
		return nil, nil, io.EOF // closed before it said anything, as a TCP health check does: gRPC knows this error
	}
	s.cfg.Refused(raw.RemoteAddr(), err)
	return nil, nil, err
}

// ClientHandshake fails: these are the credentials of a server.
func (s *server) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("identity: credentials of a server were used by a client")
}

type client struct {
	cfg      Config
	serverID spiffeid.ID
}

// ClientHandshake implements credentials.TransportCredentials. The authority is not looked at: a server is who its
// SPIFFE ID says, wherever it was found.
func (c *client) ClientHandshake(ctx context.Context, _ string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	found := finding{want: c.serverID}
	conn, info, err := c.cfg.finish(ctx, tls.Client(raw, c.cfg.tlsConfig(&found)), &found)
	if err != nil {
		_ = raw.Close()
		refused := classify(err)
		c.cfg.Refused(raw.RemoteAddr(), refused)
		return nil, nil, refused
	}
	return conn, info, nil
}

// ServerHandshake fails: these are the credentials of a client.
func (c *client) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("identity: credentials of a client were used by a server")
}

// finding is what VerifyConnection found during one handshake.
type finding struct {
	want   spiffeid.ID // zero: any
	hello  bool        // a server has seen a ClientHello
	shown  *tls.Certificate
	peer   *Peer
	chains []Chain
}

func (cfg *Config) tlsConfig(found *finding) *tls.Config {
	own := func() (*tls.Certificate, error) {
		svid, err := cfg.Source.GetX509SVID()
		if err != nil {
			return nil, refuse(ReasonOwnCertificate, fmt.Errorf("read the own certificate: %w", err))
		}
		cert := &tls.Certificate{PrivateKey: svid.PrivateKey, Leaf: svid.Certificates[0]}
		for _, c := range svid.Certificates {
			cert.Certificate = append(cert.Certificate, c.Raw)
		}
		found.shown = cert
		return cert, nil
	}
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		CurvePreferences:       []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP256},
		NextProtos:             []string{"h2"},
		SessionTicketsDisabled: true,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			found.hello = true
			return own()
		},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own() },
		// The name in a server's certificate means nothing here, its SPIFFE ID all: VerifyConnection does the whole
		// verification, with the bundle as the only roots.
		InsecureSkipVerify: true,
		RootCAs:            x509.NewCertPool(),
		ClientCAs:          x509.NewCertPool(),
		VerifyConnection: func(state tls.ConnectionState) error {
			if err := cfg.check(state, found); err != nil {
				err.Claimed = claimedName(state)
				return err
			}
			return nil
		},
	}
}

func (cfg *Config) check(state tls.ConnectionState, found *finding) *HandshakeError {
	if state.DidResume {
		return refuse(ReasonInvalid, errors.New("a session was resumed, which no peer of ours can offer"))
	}
	// RFC 7301 lets a client leave ALPN out, and crypto/tls goes on without; HTTP/2 must be chosen.
	if state.NegotiatedProtocol != "h2" {
		return refuse(ReasonALPN, errors.New("the protocol h2 was not negotiated"))
	}
	peer, chains, err := verify(state.PeerCertificates, cfg.Source, cfg.Now())
	if err != nil {
		return classify(err)
	}
	if !found.want.IsZero() && peer.ID != found.want {
		return refuse(ReasonWrongServer, fmt.Errorf("the server is %s, not %s", peer.ID, found.want))
	}
	found.peer, found.chains = peer, chains
	return nil
}

// finish makes the handshake. A panic on the way, in a parser that a peer has fed, refuses that peer and no other.
func (cfg *Config) finish(ctx context.Context, tlsConn *tls.Conn, found *finding) (_ net.Conn, _ credentials.AuthInfo, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = refuse(ReasonOther, fmt.Errorf("panic during the handshake: %v", p))
		}
	}()
	limited, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	if err := tlsConn.HandshakeContext(limited); err != nil {
		if ctx.Err() != nil {
			return nil, nil, refuse(ReasonCanceled, ctx.Err())
		}
		if limited.Err() != nil {
			return nil, nil, refuse(ReasonTimeout, fmt.Errorf("no handshake within %s: %w", handshakeTimeout, err))
		}
		return nil, nil, err
	}
	if found.peer == nil {
		return nil, nil, refuse(ReasonInvalid, errors.New("the peer was not verified"))
	}
	conn := newConn(tlsConn, found.peer, found.chains, cfg.Source, cfg.Now(), cfg.Closed)
	conn.Shown = found.shown
	if err := cfg.Opened(conn); err != nil {
		return nil, nil, err
	}
	return conn, credentials.TLSInfo{
		State:          tlsConn.ConnectionState(),
		CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity},
		SPIFFEID:       found.peer.ID.URL(),
	}, nil
}

// Info implements credentials.TransportCredentials.
func (s *server) Info() credentials.ProtocolInfo { return info() }

// Info implements credentials.TransportCredentials.
func (c *client) Info() credentials.ProtocolInfo { return info() }

func info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone implements credentials.TransportCredentials.
func (s *server) Clone() credentials.TransportCredentials { return newServer(s.cfg) }

// Clone implements credentials.TransportCredentials.
func (c *client) Clone() credentials.TransportCredentials {
	return &client{cfg: c.cfg, serverID: c.serverID}
}

// OverrideServerName does nothing: server names are not looked at.
func (s *server) OverrideServerName(string) error { return nil }

// OverrideServerName does nothing: server names are not looked at.
func (c *client) OverrideServerName(string) error { return nil }
