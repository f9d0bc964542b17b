// Package leaktest is TestMain for packages whose tests must leave no goroutine behind.
package leaktest

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience is how long what the tests left running may take to end: goleak alone looks for less than half a second, in which
// a loaded machine may not run a goroutine once.
const patience = 30 * time.Second

// Main runs the tests, and fails if goroutines of theirs are still there in the end.
func Main(m *testing.M, options ...goleak.Option) {
	goleak.VerifyTestMain(patient{m}, options...)
}

type patient struct{ *testing.M }

func (p patient) Run() int {
	code := p.M.Run()
	for start := time.Now(); code == 0 && time.Since(start) < patience && goleak.Find() != nil; {
	}
	return code
}
