package main

import (
	"cmp"
	"fmt"
	"runtime"
	"time"
)

// turn is how long one side runs before it is the other's turn: short, so that both see the same disturbances.
const turn = 25 * time.Millisecond

// side is one of the two things that a comparison is about. run does it over and over until the deadline and says how
// often it did.
type side struct {
	name string
	run  func(until time.Time) (int, error)
	turn time.Duration // zero: the constant turn
}

// sample is what one turn of one side took for each operation.
type sample struct {
	wall   float64 // nanoseconds
	cpu    float64 // nanoseconds of the whole process
	allocs float64
	bytes  float64
}

// comparison holds the samples of two sides, those with the same index taken right after each other.
type comparison struct{ base, ours []sample }

// compare lets two sides take turns, A B B A A B B A, for the given time, after a turn of each that does not count.
func compare(base, ours side, length time.Duration) (comparison, error) {
	var c comparison
	for _, s := range []side{base, ours} {
		if _, err := s.measure(); err != nil {
			return c, err
		}
	}
	for end := time.Now().Add(length); time.Now().Before(end) || len(c.base) < 2; {
		first, second := base, ours
		swapped := len(c.base)%2 == 1
		if swapped {
			first, second = ours, base
		}
		a, err := first.measure()
		if err != nil {
			return c, err
		}
		b, err := second.measure()
		if err != nil {
			return c, err
		}
		if swapped {
			a, b = b, a
		}
		c.base, c.ours = append(c.base, a), append(c.ours, b)
	}
	return c, nil
}

func (s side) measure() (sample, error) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpu, start := cpuTime(), time.Now()
	n, err := s.run(start.Add(cmp.Or(s.turn, turn)))
	wall := time.Since(start)
	cpu = cpuTime() - cpu
	runtime.ReadMemStats(&after)
	if err != nil {
		return sample{}, fmt.Errorf("%s: %w", s.name, err)
	}
	if n == 0 {
		return sample{}, fmt.Errorf("%s: did nothing in %s", s.name, wall)
	}
	return sample{
		wall:   float64(wall) / float64(n),
		cpu:    float64(cpu) / float64(n),
		allocs: float64(after.Mallocs-before.Mallocs) / float64(n),
		bytes:  float64(after.TotalAlloc-before.TotalAlloc) / float64(n),
	}, nil
}

// ratio returns ours divided by base, pair for pair.
func (c comparison) ratio(of func(sample) float64) estimate {
	return c.each(func(base, ours sample) float64 { return of(ours) / of(base) })
}

// difference returns ours less base, pair for pair.
func (c comparison) difference(of func(sample) float64) estimate {
	return c.each(func(base, ours sample) float64 { return of(ours) - of(base) })
}

func (c comparison) each(of func(base, ours sample) float64) estimate {
	values := make([]float64, len(c.base))
	for i := range values {
		values[i] = of(c.base[i], c.ours[i])
	}
	return estimateOf(values)
}

// medians returns the median of each side.
func (c comparison) medians(of func(sample) float64) (base, ours float64) {
	return estimateOf(values(c.base, of)).Median, estimateOf(values(c.ours, of)).Median
}

func values(samples []sample, of func(sample) float64) []float64 {
	out := make([]float64, len(samples))
	for i, s := range samples {
		out[i] = of(s)
	}
	return out
}

func rate(s sample) float64   { return float64(time.Second) / s.wall }
func wall(s sample) float64   { return s.wall }
func cpu(s sample) float64    { return s.cpu }
func allocs(s sample) float64 { return s.allocs }
func heaped(s sample) float64 { return s.bytes }
