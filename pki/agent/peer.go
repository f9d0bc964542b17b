package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"google.golang.org/grpc/credentials"
	grpcpeer "google.golang.org/grpc/peer"
)

// peer is who the kernel says is at the other end of a connection.
type peer struct {
	process
	uid, gid uint32
}

// peerInfo carries the peer of a connection to the handlers, and what ends the connection.
type peerInfo struct {
	credentials.CommonAuthInfo
	peer   peer
	hangUp func()
}

// AuthType names the kind of credentials, for gRPC.
func (peerInfo) AuthType() string { return "unix" }

// peerCredentials asks the kernel who connected, at once and before anything is read: gRPC's hook for it is the handshake.
type peerCredentials struct{ connections *census }

func newPeerCredentials() *peerCredentials {
	most := min(maxConnections, max(sparedFiles, openFiles()-sparedFiles))
	return &peerCredentials{newCensus("connections", most, maxConnectionsPerProcess)}
}

// ServerHandshake admits a connection within the bounds.
func (c *peerCredentials) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	unixConn, ok := raw.(*net.UnixConn)
	if !ok {
		return nil, nil, fmt.Errorf("a %T is not a Unix socket", raw)
	}
	p, err := readPeer(unixConn)
	if err != nil {
		return nil, nil, fmt.Errorf("who connected: %w", err)
	}
	if err := c.connections.admit(p); err != nil {
		return nil, nil, err
	}
	conn := &countedConn{Conn: raw, closed: sync.OnceFunc(func() { c.connections.release(p) })}
	return conn, peerInfo{credentials.CommonAuthInfo{SecurityLevel: credentials.NoSecurity}, p, func() { _ = conn.Close() }}, nil
}

// ClientHandshake is refused: these credentials are a server's.
func (c *peerCredentials) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("peer credentials are for servers only")
}

// Info names the protocol, for gRPC.
func (c *peerCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "unix"}
}

// Clone returns the same credentials: gRPC asks for it.
func (c *peerCredentials) Clone() credentials.TransportCredentials { return c }

// OverrideServerName does nothing: there are no names. gRPC asks for it.
func (c *peerCredentials) OverrideServerName(string) error { return nil }

type countedConn struct {
	net.Conn
	closed func()
}

func (c *countedConn) Close() error {
	c.closed()
	return c.Conn.Close()
}

// peerFrom returns who called, as the kernel said when the connection was opened.
func peerFrom(ctx context.Context) (peerInfo, bool) {
	p, ok := grpcpeer.FromContext(ctx)
	if !ok {
		return peerInfo{}, false
	}
	info, ok := p.AuthInfo.(peerInfo)
	return info, ok
}
