package main

import (
	"fmt"
	"time"

	"google.golang.org/grpc"
)

// measureDefaults compares a guard whose server has gRPC's default for one option (baseline) with one that has the
// guard's (ours): what the defaults of interceptors.NewServer are worth.
func measureDefaults(length time.Duration) ([]row, error) {
	workers, buffer := grpc.NumStreamWorkers(0), grpc.ReadBufferSize(32<<10)
	var rows []row
	for _, at := range []struct {
		name   string
		how    calling
		stack  int
		option grpc.ServerOption
	}{
		{"stream workers, one caller", calling{callers: 1, deadline: true}, 0, workers},
		{"stream workers, 8 callers", calling{callers: 8, deadline: true}, 0, workers},
		{"stream workers, 8 callers, handlers with 16 KiB of stack", calling{callers: 8, deadline: true}, 16, workers},
		{"4 KiB read buffer, 8 callers", calling{callers: 8, deadline: true}, 0, buffer},
		{"4 KiB read buffer, 8 callers, 64 KiB messages", calling{callers: 8, deadline: true, payload: 64 << 10}, 0, buffer},
	} {
		c, err := compareCalls(at.how, length/2,
			func(w *workloads) (*place, error) { return w.guarded(10, &ledger{stack: at.stack}, at.option) },
			func(w *workloads) (*place, error) { return w.guarded(10, &ledger{stack: at.stack}) })
		if err != nil {
			return nil, fmt.Errorf("%s: %w", at.name, err)
		}
		rows = append(rows,
			ratioRow("throughput, "+at.name, c, rate, perSecond, target{}),
			ratioRow("CPU of a call, "+at.name, c, cpu, duration, target{}))
	}
	return rows, nil
}
