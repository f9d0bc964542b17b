package main

import "time"

const (
	proofRounds = 11
	proofTurn   = 100 * time.Millisecond
)

// measureProofs compares signing and verifying a request with one bare ES256 signature and its check, which is what nobody
// can do without, and tells what it costs to remember a nonce. Benchmarks of package proof measure them in turn.
func measureProofs(time.Duration) ([]row, error) {
	found, err := benchmarked("../interceptors/proof", "BenchmarkProof", proofTurn, proofRounds, 6)
	if err != nil {
		return nil, err
	}
	nonces, err := benchmarked("../interceptors/proof", "BenchmarkNonce", proofTurn, proofRounds, 2)
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, c := range []struct{ name, base, ours string }{
		{"a request signed; an ES256 signature", "bare-sign", "sign"},
		{"a response signed; an ES256 signature", "bare-sign", "receipt"},
		{"a request verified, of the peer; an ES256 check", "bare-verify", "verify"},
		{"a request verified, passed on by another; an ES256 check", "bare-verify", "verify-relayed"},
	} {
		compared := comparison{found[c.base], found[c.ours]}
		rows = append(rows, ratioRow(c.name, compared, wall, duration, atMost(2)), differenceRow("its allocations", compared, allocs, count, target{}))
	}
	window := comparison{nonces["map"], nonces["window"]}
	return append(rows,
		ratioRow("a nonce remembered; one put into a Go map of strings", window, wall, duration, target{}),
		ratioRow("its memory", window, heaped, bytesOf, target{})), nil
}
