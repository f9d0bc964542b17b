package main

import "time"

const (
	tokenRounds = 15
	tokenTurn   = 100 * time.Millisecond
)

// measureTokens compares the verification of a user's access token with the check of its signature alone, which is what no
// verifier can do without, and a remembered token with both. BenchmarkToken of package usertoken measures them in turn.
func measureTokens(time.Duration) ([]row, error) {
	found, err := benchmarked("../interceptors/usertoken", "BenchmarkToken", tokenTurn, tokenRounds, 4)
	if err != nil {
		return nil, err
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
