package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
)

// callTimeout is the deadline of each call; far away, since what is measured is that there is one.
const callTimeout = 10 * time.Second

// measureCalls compares unary calls through the full chain, guarded client and guarded server, with bare go-spiffe
// mutual TLS, each over one connection.
func measureCalls(length time.Duration) ([]row, error) {
	// What differs between two equal sides is what this machine, at this time, cannot tell apart.
	c, err := compareCalls(calling{callers: 1, deadline: true}, length/2,
		func(w *workloads) (*place, error) { return w.bare(&ledger{}) },
		func(w *workloads) (*place, error) { return w.bare(&ledger{}) })
	if err != nil {
		return nil, fmt.Errorf("bare against bare: %w", err)
	}
	rows := []row{
		ratioRow("control: throughput, bare against bare", c, rate, perSecond, target{}),
		ratioRow("control: CPU of a call, bare against bare", c, cpu, duration, target{}),
	}
	for _, at := range []struct {
		name              string
		bindings, callers int
		deadline          bool
		bare              []grpc.ServerOption
	}{
		{"one caller, 10 bindings", 10, 1, true, nil},
		{"one caller, 1000 bindings", 1000, 1, true, nil},
		{"8 callers, 10 bindings", 10, 8, true, nil},
		{"8 callers, 1000 bindings", 1000, 8, true, nil},
		{"one caller, the guard's options on both", 10, 1, true, guardOptions()},
		{"8 callers, the guard's options on both", 10, 8, true, guardOptions()},
		{"one caller without a deadline, 10 bindings", 10, 1, false, nil},
	} {
		c, err := compareCalls(calling{callers: at.callers, deadline: at.deadline}, length,
			func(w *workloads) (*place, error) { return w.bare(&ledger{}, at.bare...) },
			func(w *workloads) (*place, error) { return w.guarded(at.bindings, &ledger{}) })
		if err != nil {
			return nil, fmt.Errorf("%s: %w", at.name, err)
		}
		throughput, more := atLeast(0.97), atMost(4)
		if at.bare != nil || !at.deadline {
			// Beyond what was promised: the chain alone, and calls that the guard, unlike the baseline, gives a deadline.
			throughput, more = target{}, target{}
		}
		rows = append(rows,
			ratioRow("throughput, "+at.name, c, rate, perSecond, throughput),
			ratioRow("CPU of a call, "+at.name, c, cpu, duration, target{}),
			differenceRow("allocations of a call, "+at.name, c, allocs, count, more),
			differenceRow("bytes allocated, "+at.name, c, heaped, bytesOf, target{}))
	}
	return rows, nil
}

// guardOptions are those defaults of the guard that can make a server faster.
func guardOptions() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.NumStreamWorkers(uint32(runtime.GOMAXPROCS(0))), grpc.ReadBufferSize(4 << 10)}
}

// calling is how calls are made.
type calling struct {
	callers  int
	deadline bool
	payload  int // bytes, in the request and again in the response
}

// compareCalls starts both places and makes calls to each in turn.
func compareCalls(how calling, length time.Duration, base, ours func(*workloads) (*place, error)) (comparison, error) {
	return compareOver(how.call, turn, length, base, ours)
}

// compareOver starts both places and runs the same over a connection to each in turn.
func compareOver(run func(*grpc.ClientConn, time.Time) (int, error), turn, length time.Duration, base, ours func(*workloads) (*place, error)) (c comparison, err error) {
	w := newWorkloads()
	var sides [2]side
	for i, start := range []func(*workloads) (*place, error){base, ours} {
		p, err := start(w)
		if err != nil {
			return c, err
		}
		defer func() { err = errors.Join(err, p.close()) }()
		conn, err := p.dial()
		if err != nil {
			return c, err
		}
		defer func() { _ = conn.Close() }()
		sides[i] = side{
			name: []string{"baseline", "ours"}[i],
			turn: turn,
			run:  func(until time.Time) (int, error) { return run(conn, until) },
		}
	}
	return compare(sides[0], sides[1], length)
}

// call makes calls from all callers until the time is up.
func (how calling) call(conn *grpc.ClientConn, until time.Time) (int, error) {
	ledger := ledgerv1.NewLedgerServiceClient(conn)
	request := &ledgerv1.GetBalanceRequest{AccountId: strings.Repeat("a", how.payload)}
	one := func() error {
		ctx := context.Background()
		if how.deadline {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, callTimeout)
			defer cancel()
		}
		_, err := ledger.GetBalance(ctx, request)
		return err
	}
	return repeat(how.callers, one, until)
}

// repeat does one thing from so many callers at a time until the time is up, and once where it already is.
func repeat(callers int, one func() error, until time.Time) (int, error) {
	if callers == 1 {
		n := 0
		for ; n == 0 || time.Now().Before(until); n++ {
			if err := one(); err != nil {
				return n, err
			}
		}
		return n, nil
	}
	var wg sync.WaitGroup
	var total atomic.Int64
	errs := make([]error, callers)
	for i := range callers {
		wg.Go(func() {
			n := int64(0)
			for ; n == 0 || time.Now().Before(until) && errs[i] == nil; n++ {
				errs[i] = one()
			}
			total.Add(n)
		})
	}
	wg.Wait()
	return int(total.Load()), errors.Join(errs...)
}
