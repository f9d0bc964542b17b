package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/connectivity"
)

// measureHandshakes compares how long it takes from nothing to a connection that calls can be made on: TCP, TLS with the
// verification of both chains, HTTP/2 settings. Both ends are in this process.
func measureHandshakes(length time.Duration) (_ []row, err error) {
	w := newWorkloads()
	bare, err := w.bare(&ledger{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, bare.close()) }()
	guarded, err := w.guarded(1000, &ledger{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, guarded.close()) }()
	c, err := compare(side{name: "bare", run: bare.connect}, side{name: "guarded", run: guarded.connect}, length)
	if err != nil {
		return nil, err
	}
	return []row{
		ratioRow("time to a ready connection", c, wall, duration, target{}),
		ratioRow("CPU, both ends", c, cpu, duration, target{}),
		differenceRow("allocations, both ends", c, allocs, count, target{}),
	}, nil
}

// connect makes and closes connections, one after the other.
func (p *place) connect(until time.Time) (int, error) {
	n := 0
	for ; n == 0 || time.Now().Before(until); n++ {
		if err := p.connectOnce(); err != nil {
			return n, err
		}
	}
	return n, nil
}

func (p *place) connectOnce() error {
	conn, err := p.dial()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	conn.Connect()
	for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
		if state == connectivity.TransientFailure || !conn.WaitForStateChange(ctx, state) {
			return fmt.Errorf("connect to %s: the connection is %s", p.address, state)
		}
	}
	return nil
}
