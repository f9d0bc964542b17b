package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"time"
)

// buildBenchmark builds the tests of a package, seen from this folder, into a program in dir that runs its benchmarks.
func buildBenchmark(pkg, dir string) (binary string, err error) {
	binary = filepath.Join(dir, filepath.Base(pkg)+".test")
	if runtime.GOOS == "windows" {
		binary += ".exe"
	}
	if out, err := exec.Command(cmp.Or(os.Getenv("GO"), "go"), "-C", pkg, "test", "-c", "-o", binary, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the benchmark of %s: %w\n%s", pkg, err, out)
	}
	return binary, nil
}

// benchmarked runs a benchmark of a package, seen from this folder, in rounds of a turn for each of its parts, and returns
// what each part took: lines NAME/what=PART. parts is how many there are.
func benchmarked(pkg, name string, turn time.Duration, rounds, parts int) (_ map[string][]sample, err error) {
	dir, err := os.MkdirTemp("", "rolecall-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	binary, err := buildBenchmark(pkg, dir)
	if err != nil {
		return nil, err
	}
	found := map[string][]sample{}
	for range rounds {
		cmd := exec.Command(binary, "-test.run=^$", "-test.bench=^"+name+"$", "-test.benchtime="+turn.String())
		cmd.Dir = pkg // where go test would run it
		out, err := cmd.CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("run %s: %w\n%s", name, err, out)
		}
		lines := benchmarkLine.FindAllStringSubmatch(string(out), -1)
		if len(lines) != parts {
			return nil, fmt.Errorf("%s printed %d results, not %d:\n%s", name, len(lines), parts, out)
		}
		for _, m := range lines {
			s := sample{}
			for unit, into := range map[string]*float64{"ns/op": &s.wall, "ns/nonce": &s.wall, "B/nonce": &s.bytes, "allocs/op": &s.allocs} {
				if value := regexp.MustCompile(`([\d.]+) ` + unit + `\b`).FindStringSubmatch(m[2]); value != nil {
					if *into, err = strconv.ParseFloat(value[1], 64); err != nil {
						return nil, fmt.Errorf("read the output of %s: %w", name, err)
					}
				}
			}
			found[m[1]] = append(found[m[1]], s)
		}
	}
	return found, nil
}

// A line of a benchmark's output, as `go help testflag` and the benchmark format describe it.
var benchmarkLine = regexp.MustCompile(`(?m)^Benchmark\w+/what=([\w-]+?)(?:-\d+)?\s+\d+\s+(.*)$`)
