package main

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"google.golang.org/grpc"
)

const (
	idleConnections = 500
	memoryRounds    = 3
)

// measureMemory compares what a server keeps for a connection on which nothing happens. The clients are in a process of
// their own, so that only the server's side is counted; they made one call each. It takes as long as it takes.
func measureMemory(time.Duration) ([]row, error) {
	w := newWorkloads()
	buffer := grpc.ReadBufferSize(32 << 10) // gRPC's default
	variants := []func() (*place, error){
		func() (*place, error) { return w.bare(&ledger{}) },
		func() (*place, error) { return w.guarded(10, &ledger{}) },
		func() (*place, error) { return w.guarded(10, &ledger{}, buffer) },
	}
	samples := make([][]sample, len(variants))
	stacks := make([][]sample, len(variants))
	for range memoryRounds {
		for i, start := range variants {
			heap, stack, err := idle(w, start, idleConnections)
			if err != nil {
				return nil, err
			}
			samples[i] = append(samples[i], sample{bytes: heap})
			stacks[i] = append(stacks[i], sample{bytes: stack})
		}
	}
	heap := func(a, b int) comparison { return comparison{samples[a], samples[b]} }
	return []row{
		ratioRow("heap of an idle connection", heap(0, 1), heaped, kibibytes, target{}),
		ratioRow("the same, gRPC's read buffer of 32 KiB on both", heap(0, 2), heaped, kibibytes, target{}),
		ratioRow("stacks of an idle connection", comparison{stacks[0], stacks[1]}, heaped, kibibytes, target{}),
	}, nil
}

// idle returns the bytes of heap and of stacks that each of n idle connections costs a server.
func idle(w *workloads, start func() (*place, error), n int) (heap, stack float64, err error) {
	p, err := start()
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	before := settled()
	clients, err := startClients(w, p.address, n)
	if err != nil {
		return 0, 0, fmt.Errorf("clients: %w", err)
	}
	defer func() { err = errors.Join(err, clients.stop()) }()
	after := settled()
	return (float64(after.HeapAlloc) - float64(before.HeapAlloc)) / float64(n),
		(float64(after.StackInuse) - float64(before.StackInuse)) / float64(n), nil
}

// settled collects garbage until there is no less of it: pools give up what they hold after two collections, and
// stacks shrink one step at a time.
func settled() runtime.MemStats {
	var last, now runtime.MemStats
	for i := 0; i < 20; i++ {
		runtime.GC()
		runtime.ReadMemStats(&now)
		if i >= 4 && now.HeapAlloc >= last.HeapAlloc && now.StackInuse >= last.StackInuse {
			break
		}
		last = now
	}
	return now
}
