package access

import (
	"strconv"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/cli"
)

// mistakes are the kinds of findings that no author can have meant: a binding that gives nothing, and one that stays in
// force when its twin is taken away. The others may be on purpose: a role that nobody holds yet, a member of another trust
// domain, a member that is denied for the time being.
var mistakes = map[string]bool{"role-unknown": true, "member-duplicate": true}

// Check is what is to be said about bindings.
type Check struct {
	Roles         string    `json:"roles"` // the file
	TrustDomain   string    `json:"trust_domain"`
	PolicyVersion string    `json:"policy_version"`
	Methods       int       `json:"methods"`
	Members       int       `json:"members"`
	Mistakes      int       `json:"mistakes"`
	Findings      []Finding `json:"findings"`
}

// Finding is something in valid bindings that their author may not have meant.
type Finding struct {
	Kind    string `json:"kind"` // as interceptors.PolicyFinding has it
	Mistake bool   `json:"mistake"`
	Line    int    `json:"line,omitempty"` // from 1; 0 if it is about a method
	Message string `json:"message"`
}

// NewCheck returns what is to be said about a policy that was read from a file.
func NewCheck(roles string, p *interceptors.Policy) *Check {
	c := &Check{Roles: roles, TrustDomain: p.TrustDomain, PolicyVersion: p.Version, Methods: len(p.Methods), Members: len(p.Members), Findings: []Finding{}}
	for _, f := range p.Findings {
		finding := Finding{Kind: f.Kind, Mistake: mistakes[f.Kind], Line: f.Line, Message: f.Message}
		if finding.Mistake {
			c.Mistakes++
		}
		c.Findings = append(c.Findings, finding)
	}
	return c
}

// Table shows a line for each finding.
func (c *Check) Table() *cli.Table {
	table := &cli.Table{Header: []string{"WHERE", "VERDICT", "KIND", "WHAT"}}
	for _, f := range c.Findings {
		where, verdict := "methods", "notice"
		if f.Line > 0 {
			where = c.Roles + ":" + strconv.Itoa(f.Line)
		}
		if f.Mistake {
			verdict = "mistake"
		}
		table.Add(where, verdict, f.Kind, cli.Clean(f.Message))
	}
	return table
}
