package access

import (
	"strings"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/cli"
)

// Matrix is who may call what, for programs.
type Matrix struct {
	TrustDomain   string   `json:"trust_domain"`
	PolicyVersion string   `json:"policy_version"`
	Methods       []Method `json:"methods"`
	Members       []Member `json:"members"`
}

// Method is a method, what it requires, and which members fulfil that.
type Method struct {
	Method      string   `json:"method"` // "/ledger.v1.LedgerService/Transfer"
	Roles       []string `json:"roles"`  // all of them
	AnyWorkload bool     `json:"any_workload,omitempty"`
	UserRoles   []string `json:"user_roles,omitempty"`
	User        bool     `json:"user,omitempty"`
	Proof       bool     `json:"proof,omitempty"`
	ExactlyOnce bool     `json:"exactly_once,omitempty"`
	Callers     []string `json:"callers"`
}

// Member is a member of a binding, and which roles it holds.
type Member struct {
	Member string   `json:"member"`
	Roles  []string `json:"roles"`
	Denied string   `json:"denied,omitempty"`
}

// NewMatrix returns the matrix of a policy.
func NewMatrix(p *interceptors.Policy) *Matrix {
	m := &Matrix{TrustDomain: p.TrustDomain, PolicyVersion: p.Version, Methods: []Method{}, Members: []Member{}}
	for _, method := range p.Methods {
		m.Methods = append(m.Methods, Method{
			Method: method.Method, Roles: list(method.Roles), AnyWorkload: method.AnyWorkload, UserRoles: method.UserRoles,
			User: method.User, Proof: method.Proof, ExactlyOnce: method.ExactlyOnce, Callers: list(method.Callers),
		})
	}
	for _, member := range p.Members {
		m.Members = append(m.Members, Member{Member: member.Member, Roles: list(member.Roles), Denied: member.Denied})
	}
	return m
}

// list is never nil, so that programs always find a list.
func list(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

// Table shows a line for each method. Members of the own trust domain are shown by their paths.
func (m *Matrix) Table() *cli.Table {
	table := &cli.Table{Header: []string{"METHOD", "REQUIRES", "WHO MAY CALL"}}
	for _, method := range m.Methods {
		table.Add(strings.TrimPrefix(method.Method, "/"), method.requires(), m.callers(method))
	}
	return table
}

func (m Method) requires() string {
	words := m.Roles
	if m.AnyWorkload {
		words = []string{"any workload"}
	}
	for _, role := range m.UserRoles {
		words = append(words[:len(words):len(words)], "user:"+role)
	}
	for _, condition := range []struct {
		set  bool
		word string
	}{{m.User && len(m.UserRoles) == 0, "a user"}, {m.Proof, "proof"}, {m.ExactlyOnce, "exactly once"}} {
		if condition.set {
			words = append(words[:len(words):len(words)], condition.word)
		}
	}
	return strings.Join(words, " + ")
}

func (m *Matrix) callers(method Method) string {
	switch {
	case method.AnyWorkload:
		return "all of " + m.TrustDomain
	case len(method.Callers) == 0:
		return "nobody"
	}
	short := make([]string, len(method.Callers))
	for i, caller := range method.Callers {
		short[i] = strings.TrimPrefix(caller, "spiffe://"+m.TrustDomain)
	}
	return strings.Join(short, " ")
}
