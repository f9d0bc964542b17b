package supervisor

import (
	"math/rand/v2"
	"time"
)

// The first pause is short, for the one crash in a good while; the last is long enough that a program that always crashes
// costs next to nothing. A program that did its work for steady starts again with the first.
const (
	firstPause = 200 * time.Millisecond
	lastPause  = 30 * time.Second
	steady     = 30 * time.Second
)

// backoff counts the crashes of one program. Not safe for concurrent use.
type backoff struct{ crashes int }

// next returns the pause before the next start: doubled for each crash in a row, bounded, and spread by a tenth up or
// down so that programs that crash together do not all come back together.
func (b *backoff) next(worked time.Duration) time.Duration {
	if worked >= steady {
		b.crashes = 0
	}
	pause := lastPause
	if b.crashes < 8 {
		pause = min(lastPause, firstPause<<b.crashes)
	}
	b.crashes++
	return time.Duration(float64(pause) * (0.9 + 0.2*rand.Float64()))
}
