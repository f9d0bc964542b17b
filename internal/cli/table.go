package cli

import (
	"io"
	"regexp"
	"strings"
	"unicode/utf8"
)

// Table is a table for people: columns as wide as their widest cell, two spaces between them.
type Table struct {
	Header []string
	rows   [][]string
}

// Add adds a row. Cells may be styled.
func (t *Table) Add(cells ...string) { t.rows = append(t.rows, cells) }

// Len returns how many rows there are.
func (t *Table) Len() int { return len(t.rows) }

// Write writes the table to out with a bold header.
func (t *Table) Write(out *Output) {
	header := make([]string, len(t.Header))
	for i, h := range t.Header {
		header[i] = out.Bold(h)
	}
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
	var text strings.Builder
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(cell)
			if i < len(row)-1 {
				line.WriteString(strings.Repeat(" ", widths[i]-visible(cell)+2))
			}
		}
		text.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	_, _ = io.WriteString(out, text.String()) // as with Printf
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
