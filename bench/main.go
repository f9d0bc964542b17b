// Command bench measures what the guard costs, beside what it is compared with and in the same run.
//
// Every figure is a ratio (or a difference) of two sides that took turns, in rounds of a fraction of a second: on a
// machine that others use too, a time alone says nothing. See docs/bench.md for how to read the table.
//
// It measures no correctness; tests do that, including the two targets that do not depend on time: allocations of a
// decision (package interceptors) and of a call (here).
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

func main() {
	clientsInstead()
	length := flag.Duration("time", 10*time.Second, "how long each comparison takes")
	only := flag.String("only", "", "run the suites whose names contain this text")
	output := flag.String("o", "table", "table or json")
	profile := flag.String("cpuprofile", "", "write a CPU profile of everything to this file")
	flag.Parse()
	if *output != "table" && *output != "json" || flag.NArg() > 0 || *length < time.Second {
		fmt.Fprintln(os.Stderr, "bench: -o is table or json, -time is 1s or more, and there are no arguments")
		os.Exit(2)
	}
	stop, err := startProfile(*profile)
	if err == nil {
		err = run(*length, *only, *output == "json")
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// suite is one part of the run.
type suite struct {
	name    string
	measure func(length time.Duration) ([]row, error)
}

var suites = []suite{
	{"decision", measureDecision},
	{"tokens", measureTokens},
	{"proofs", measureProofs},
	{"once", measureOnce},
	{"calls", measureCalls},
	{"streams", measureStreams},
	{"handshake", measureHandshakes},
	{"memory", measureMemory},
	{"defaults", measureDefaults},
	{"issuance", measureIssuance},
}

func run(length time.Duration, only string, asJSON bool) error {
	start := time.Now()
	var rows []row
	for _, s := range suites {
		if !strings.Contains(s.name, only) {
			continue
		}
		fmt.Fprintf(os.Stderr, "%-9s ...", s.name)
		began := time.Now()
		measured, err := s.measure(length)
		if err != nil {
			fmt.Fprintln(os.Stderr)
			return fmt.Errorf("suite %s: %w", s.name, err)
		}
		fmt.Fprintf(os.Stderr, " %s\n", time.Since(began).Round(time.Second))
		for _, r := range measured {
			r.Suite = s.name
			rows = append(rows, r)
		}
	}
	if len(rows) == 0 {
		return fmt.Errorf("no suite has %q in its name", only)
	}
	if asJSON {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(rows)
	}
	printTable(os.Stdout, rows)
	fmt.Printf("\n%s, %s/%s, GOMAXPROCS %d, %s in all. A range is the 95 %% interval of the median; \"unclear\" is a target inside it.\n",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0), time.Since(start).Round(time.Second))
	return nil
}
