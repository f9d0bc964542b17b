package main

import (
	"math"
	"slices"
)

// estimate is the median of many measurements and how sure it is.
type estimate struct {
	Median float64 `json:"median"`
	// Low and High enclose the true median with a probability of 95 %, whatever the distribution: they are order
	// statistics (binomial, normal approximation). With fewer than eight measurements they are the extremes.
	Low  float64 `json:"low"`
	High float64 `json:"high"`
	// Count is the number of measurements.
	Count int `json:"count"`
}

// estimateOf returns the estimate of at least one measurement.
func estimateOf(measured []float64) estimate {
	sorted := slices.Sorted(slices.Values(measured))
	n := len(sorted)
	e := estimate{Median: sorted[n/2], Low: sorted[0], High: sorted[n-1], Count: n}
	if n%2 == 0 {
		e.Median = (sorted[n/2-1] + sorted[n/2]) / 2
	}
	if n >= 8 {
		reach := 0.98 * math.Sqrt(float64(n)) // 1.96 standard deviations of a fair coin thrown n times
		e.Low = sorted[max(0, int(math.Floor(float64(n-1)/2-reach)))]
		e.High = sorted[min(n-1, int(math.Ceil(float64(n-1)/2+reach)))]
	}
	return e
}

// target is what a figure should be. The zero target accepts anything.
type target struct {
	bound float64
	most  bool // the bound is the most that is allowed, else the least
	set   bool
}

func atLeast(bound float64) target { return target{bound: bound, set: true} }
func atMost(bound float64) target  { return target{bound: bound, most: true, set: true} }

// verdict says whether the target is met: "met" or "missed" if the whole interval says so, "unclear" if it does not, and
// "" where there is no target.
func (t target) verdict(e estimate) string {
	low, high := t.accepts(e.Low), t.accepts(e.High)
	switch {
	case !t.set:
		return ""
	case low && high:
		return "met"
	case !low && !high:
		return "missed"
	}
	return "unclear"
}

func (t target) accepts(x float64) bool {
	if t.most {
		return x <= t.bound
	}
	return x >= t.bound
}
