package agent

import "testing"

func TestOneUserCannotTakeAllConnections(t *testing.T) {
	t.Parallel()
	c := newPeerCredentials()
	of := func(uid uint32, n int) peer { return peer{process: process{pid: 1000 + n}, uid: uid} }
	for n := range maxConnectionsPerUser {
		if err := c.admit(of(1, n)); err != nil {
			t.Fatalf("connection %d: %v", n+1, err)
		}
	}
	if err := c.admit(of(1, maxConnectionsPerUser)); err == nil {
		t.Error("a user was given more than a quarter of the connections")
	}
	if err := c.admit(of(2, 0)); err != nil {
		t.Errorf("another user: %v", err)
	}
	c.release(of(1, 0))
	if err := c.admit(of(1, maxConnectionsPerUser)); err != nil {
		t.Errorf("after one was closed: %v", err)
	}
}
