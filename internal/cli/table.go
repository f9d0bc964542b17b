package cli

import (
	"io"
	"math"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Table is a table for people: columns as wide as their widest cell, two spaces between them.
type Table struct {
	Header []string
	rows   [][]string
}

// Add adds a row. Cells may be styled; what else a terminal would act on is taken out of them, as Clean does, so that no
// cell makes a row of its own.
func (t *Table) Add(cells ...string) {
	row := make([]string, len(cells))
	for i, cell := range cells {
		for _, style := range styles.FindAllString(cell, -1) {
			before, after, _ := strings.Cut(cell, style)
			row[i], cell = row[i]+Clean(before)+style, after
		}
		row[i] += Clean(cell)
	}
	t.rows = append(t.rows, row)
}

// Len returns how many rows there are.
func (t *Table) Len() int { return len(t.rows) }

// Write writes the table to out with a bold header. On a terminal what is too wide for it in the last column goes on in the
// next line.
func (t *Table) Write(out *Output) {
	header := make([]string, len(t.Header))
	for i, h := range t.Header {
		header[i] = out.Bold(h)
	}
	room := math.MaxInt
	if out.Terminal() {
		room = out.Width()
	}
	_, _ = io.WriteString(out, t.text(header, room)) // as with Printf
}

// text lays the table out for a number of columns.
func (t *Table) text(header []string, room int) string {
	rows := append([][]string{header}, t.rows...)
	var widths []int
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], visible(cell))
		}
	}
	last := max(len(t.Header)-1, 0)
	for _, width := range widths[:last] {
		room -= width + 2
	}
	var text strings.Builder
	for n := 0; n < len(rows); n++ {
		row := rows[n]
		if len(row) > last {
			if first, rest := fold(row[last], room); rest != "" {
				row = append(slices.Clone(row[:last]), first)
				rows = slices.Insert(rows, n+1, append(make([]string, last), rest))
			}
		}
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(cell)
			if i < len(row)-1 {
				line.WriteString(strings.Repeat(" ", widths[i]-visible(cell)+2))
			}
		}
		text.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	return text.String()
}

// minFold is the least number of columns that a cell is folded for: fewer are no use.
const minFold = 16

// fold takes as many words of a cell as there is room for. A styled one is left as it is.
func fold(cell string, room int) (first, rest string) {
	if room < minFold || visible(cell) <= room || strings.Contains(cell, "\x1b") {
		return cell, ""
	}
	runes := []rune(cell)
	for i := room; i > 0; i-- {
		if runes[i] == ' ' {
			return string(runes[:i]), string(runes[i+1:])
		}
	}
	return cell, "" // a word, a path for one, stays whole
}

// Markdown writes the table as Markdown has it.
func (t *Table) Markdown(out *Output) {
	line := func(cells []string) {
		escaped := make([]string, len(cells))
		for i, c := range cells {
			escaped[i] = strings.ReplaceAll(c, "|", `\|`)
		}
		out.Printf("| %s |\n", strings.Join(escaped, " | "))
	}
	line(t.Header)
	out.Printf("|%s\n", strings.Repeat("---|", len(t.Header)))
	for _, row := range t.rows {
		line(row)
	}
}

var styles = regexp.MustCompile("\x1b\\[[0-9;]*m")

// visible returns how many columns a cell takes.
func visible(s string) int { return utf8.RuneCountInString(styles.ReplaceAllString(s, "")) }
