package identity

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"google.golang.org/grpc/peer"
)

// Both sides remember which certificate they have shown, whatever their sources hold by then.
func TestAConnectionRemembersWhatItHasShown(t *testing.T) {
	t.Parallel()
	root, end := newRoot(t, "root"), time.Now().Add(time.Hour)
	bundle := x509bundle.FromX509Authorities(mesh, []*x509.Certificate{root.cert})
	side := func(own holder) Config {
		return Config{
			Source: source{own, ledger, bundle}, Now: time.Now,
			Opened: func(*Conn) error { return nil }, Closed: func(*Conn) {}, Refused: func(net.Addr, *HandshakeError) {},
		}
	}
	ofServer, ofClient := root.leaf(t, ledger, end), root.leaf(t, ledger, end)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { must(t, lis.Close()) }()
	done := make(chan error, 1)
	go func() {
		raw, err := lis.Accept()
		if err != nil {
			done <- err
			return
		}
		conn, _, err := newServer(side(ofServer)).ServerHandshake(raw)
		if err == nil {
			if shown := FromPeer(&peer.Peer{LocalAddr: conn.LocalAddr()}).Shown; !shown.Leaf.Equal(ofServer.cert) {
				err = errors.New("the server remembers another certificate than its own")
			}
			err = errors.Join(err, conn.Close())
		}
		done <- err
	}()
	raw, err := net.Dial("tcp", lis.Addr().String())
	must(t, err)
	conn, _, err := (&client{cfg: side(ofClient), serverID: ledger}).ClientHandshake(context.Background(), "", raw)
	must(t, err)
	defer func() { _ = conn.Close() }()
	if shown := FromPeer(&peer.Peer{LocalAddr: conn.LocalAddr()}).Shown; !shown.Leaf.Equal(ofClient.cert) {
		t.Error("the client remembers another certificate than its own")
	}
	must(t, <-done)
	if FromPeer(&peer.Peer{}) != nil || FromPeer(&peer.Peer{LocalAddr: raw.LocalAddr()}) != nil {
		t.Error("a connection was found where there is none")
	}
}
