package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// row is one line of the table.
type row struct {
	Suite    string   `json:"suite"`
	Name     string   `json:"name"`
	Baseline string   `json:"baseline"` // with its unit
	Ours     string   `json:"ours"`
	Kind     string   `json:"kind"` // ratio: ours / baseline; difference: ours - baseline; absolute: ours
	Figure   estimate `json:"figure"`
	Target   string   `json:"target,omitempty"`
	Verdict  string   `json:"verdict,omitempty"` // met, missed or unclear

	unit func(float64) string
}

// ratioRow is a row whose figure is ours divided by base.
func ratioRow(name string, c comparison, of func(sample) float64, unit func(float64) string, t target) row {
	base, ours := c.medians(of)
	r := row{Name: name, Baseline: unit(base), Ours: unit(ours), Kind: "ratio", Figure: c.ratio(of), unit: times}
	return r.against(t)
}

// differenceRow is a row whose figure is ours less base.
func differenceRow(name string, c comparison, of func(sample) float64, unit func(float64) string, t target) row {
	base, ours := c.medians(of)
	r := row{Name: name, Baseline: unit(base), Ours: unit(ours), Kind: "difference", Figure: c.difference(of), unit: unit}
	return r.against(t)
}

func (r row) against(t target) row {
	if t.set {
		r.Target = "≥ " + r.unit(t.bound)
		if t.most {
			r.Target = "≤ " + r.unit(t.bound)
		}
		r.Verdict = t.verdict(r.Figure)
	}
	return r
}

func (r row) figure() string {
	text := fmt.Sprintf("%s (%s to %s)", r.unit(r.Figure.Median), r.unit(r.Figure.Low), r.unit(r.Figure.High))
	if r.Kind == "difference" && r.Figure.Median > 0 {
		text = "+" + text
	}
	return text
}

func printTable(w io.Writer, rows []row) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	suite := ""
	for _, r := range rows {
		if r.Suite != suite {
			suite = r.Suite
			fmt.Fprintf(t, "\n%s\tbaseline\tours\tratio, or ± difference\ttarget\t\n", suite)
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%s\t%s\n", r.Name, r.Baseline, r.Ours, r.figure(), r.Target, r.Verdict)
	}
	_ = t.Flush()
}

func times(x float64) string     { return fmt.Sprintf("%.3f", x) }
func perSecond(x float64) string { return fmt.Sprintf("%.0f/s", x) }
func count(x float64) string     { return fmt.Sprintf("%.1f", x) }
func bytesOf(x float64) string   { return fmt.Sprintf("%.0f B", x) }
func kibibytes(x float64) string { return fmt.Sprintf("%.1f KiB", x/1024) }

func duration(ns float64) string {
	d := time.Duration(ns)
	switch {
	case d < time.Microsecond:
		return fmt.Sprintf("%.1f ns", ns)
	case d < time.Millisecond:
		return fmt.Sprintf("%.1f µs", ns/1e3)
	}
	return fmt.Sprintf("%.2f ms", ns/1e6)
}
