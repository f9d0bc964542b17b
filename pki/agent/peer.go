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

// Bounds of what one process may hold open; all processes together are bounded by maxConnections.
const (
	maxConnections           = 4096
	maxConnectionsPerUser    = maxConnections / 4
	maxConnectionsPerProcess = 64
	defaultStreamsPerProcess = 64
)

// peer is who the kernel says is at the other end of a connection.
type peer struct {
	process
	uid, gid uint32
}

// peerInfo carries the peer of a connection to the handlers.
type peerInfo struct {
	credentials.CommonAuthInfo
	peer peer
}

// AuthType names the kind of credentials, for gRPC.
func (peerInfo) AuthType() string { return "unix" }

// peerCredentials asks the kernel who connected, at once and before anything is read: gRPC's hook for it is the handshake.
type peerCredentials struct {
	mu          sync.Mutex
	connections map[process]int
	users       map[uint32]int
	total       int
}

func newPeerCredentials() *peerCredentials {
	return &peerCredentials{connections: map[process]int{}, users: map[uint32]int{}}
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
	if err := c.admit(p); err != nil {
		return nil, nil, err
	}
	conn := &countedConn{Conn: raw, closed: sync.OnceFunc(func() { c.release(p) })}
	return conn, peerInfo{credentials.CommonAuthInfo{SecurityLevel: credentials.NoSecurity}, p}, nil
}

func (c *peerCredentials) admit(p peer) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.total >= maxConnections || c.users[p.uid] >= maxConnectionsPerUser || c.connections[p.process] >= maxConnectionsPerProcess {
		return fmt.Errorf("process %d of user %d: too many connections", p.pid, p.uid)
	}
	c.total++
	c.users[p.uid]++
	c.connections[p.process]++
	return nil
}

func (c *peerCredentials) release(p peer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total--
	if c.users[p.uid]--; c.users[p.uid] == 0 {
		delete(c.users, p.uid)
	}
	if c.connections[p.process]--; c.connections[p.process] == 0 {
		delete(c.connections, p.process)
	}
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
func peerFrom(ctx context.Context) (peer, bool) {
	p, ok := grpcpeer.FromContext(ctx)
	if !ok {
		return peer{}, false
	}
	info, ok := p.AuthInfo.(peerInfo)
	return info.peer, ok
}
