package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"time"
)

const (
	tokenRounds  = 15
	tokenTurn    = 100 * time.Millisecond
	tokenPackage = "../interceptors/usertoken"
)

// measureTokens compares the verification of a user's access token with the check of its signature alone, which is what no
// verifier can do without, and a remembered token with both. BenchmarkToken of package usertoken measures them in turn.
func measureTokens(time.Duration) (_ []row, err error) {
	dir, err := os.MkdirTemp("", "rolecall-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	binary, err := buildBenchmark(tokenPackage, dir)
	if err != nil {
		return nil, err
	}
	found := map[string][]sample{}
	for range tokenRounds {
		if err := benchmarkTokens(binary, found); err != nil {
			return nil, err
		}
	}
	uncached := comparison{found["signature"], found["uncached"]}
	cached := comparison{found["signature"], found["cached"]}
	again := comparison{found["signature"], found["standing"]}
	return []row{
		ratioRow("a token seen for the first time; its ES256 signature alone", uncached, wall, duration, atMost(2)),
		differenceRow("its allocations", uncached, allocs, count, target{}),
		ratioRow("a token that is remembered; an ES256 signature", cached, wall, duration, atMost(0.1)),
		differenceRow("its allocations", cached, allocs, count, target{}),
		ratioRow("a look at the user of an open stream; an ES256 signature", again, wall, duration, atMost(0.01)),
	}, nil
}

var tokenLine = regexp.MustCompile(`(?m)^BenchmarkToken/what=(\w+)\S*\s+\d+\s+([\d.]+) ns/op\s+\d+ B/op\s+(\d+) allocs/op`)

// benchmarkTokens runs the benchmark once and adds what each part of it took.
func benchmarkTokens(binary string, found map[string][]sample) error {
	cmd := exec.Command(binary, "-test.run=^$", "-test.bench=^BenchmarkToken$", "-test.benchtime="+tokenTurn.String())
	cmd.Dir = tokenPackage // where go test would run it
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("run BenchmarkToken: %w\n%s", err, out)
	}
	lines := tokenLine.FindAllStringSubmatch(string(out), -1)
	if len(lines) != 4 {
		return fmt.Errorf("BenchmarkToken printed %d results, not 4:\n%s", len(lines), out)
	}
	for _, m := range lines {
		ns, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			return fmt.Errorf("read the output of BenchmarkToken: %w", err)
		}
		allocated, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			return fmt.Errorf("read the output of BenchmarkToken: %w", err)
		}
		found[m[1]] = append(found[m[1]], sample{wall: ns, allocs: allocated})
	}
	return nil
}
