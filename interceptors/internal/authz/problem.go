package authz

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one reason why a server must not start.
type Problem struct {
	Subject string // a full method, "/ledger.v1.LedgerService/Transfer", or a service
	Text    string // what is wrong, and what to do
	Snippet string // lines to paste where Text says; may be empty
}

// Problems is the error that Compile returns: everything that is wrong, sorted, so that one start tells all.
type Problems []Problem

// Error lists the problems, one to a line, with their snippets indented below.
func (p Problems) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "the server's policy has %d problem(s), and nothing is served until they are solved:", len(p))
	for _, problem := range p {
		fmt.Fprintf(&b, "\n  %s: %s", problem.Subject, problem.Text)
		for line := range strings.Lines(problem.Snippet) {
			b.WriteString("\n      " + strings.TrimSuffix(line, "\n"))
		}
	}
	return b.String()
}

// sorted returns the problems in the order of their subjects, each once, or nil if there is none.
func (p Problems) sorted() error {
	if len(p) == 0 {
		return nil
	}
	slices.SortFunc(p, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Text, b.Text))
	})
	return slices.Compact(p)
}
