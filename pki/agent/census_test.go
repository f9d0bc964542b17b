package agent

import "testing"

func TestOneUserHasHalfOfAllConnectionsAtMost(t *testing.T) {
	t.Parallel()
	c := newCensus("connections", 100, 20)
	of := func(uid uint32, n int) peer { return peer{process: process{pid: 1000 + n}, uid: uid} }
	for n := range 50 {
		if err := c.admit(of(1, n)); err != nil {
			t.Fatalf("connection %d: %v", n+1, err)
		}
	}
	if err := c.admit(of(1, 50)); err == nil {
		t.Error("a user was given more than half of the connections")
	}
	for n := range 50 {
		if err := c.admit(of(2, n)); err != nil {
			t.Errorf("another user: %v", err)
		}
	}
	if err := c.admit(of(3, 0)); err == nil {
		t.Error("a connection more than there may be was admitted")
	}
	c.release(of(1, 0))
	if err := c.admit(of(1, 50)); err != nil {
		t.Errorf("after one was closed: %v", err)
	}
}

func TestOneProcessHasItsShareOfConnectionsAtMost(t *testing.T) {
	t.Parallel()
	c := newCensus("connections", 100, 20)
	for range 20 {
		if err := c.admit(peer{process: process{pid: 1}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.admit(peer{process: process{pid: 1}}); err == nil {
		t.Error("a process was given more than its share")
	}
	if err := c.admit(peer{process: process{pid: 2}}); err != nil {
		t.Errorf("another process of the user: %v", err)
	}
	for range 20 {
		c.release(peer{process: process{pid: 1}})
	}
	if len(c.ofProcess) != 1 || c.count() != 1 {
		t.Errorf("%d processes and %d connections are remembered, want one", len(c.ofProcess), c.count())
	}
}
