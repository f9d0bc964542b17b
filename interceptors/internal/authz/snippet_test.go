package authz

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/grpc"
)

// refusal compiles the policy of shop.v1.Shop in the source and returns the one problem that stops it.
func refusal(t *testing.T, source string) Problem {
	t.Helper()
	_, err := compileShop(t, source, nil)
	var problems Problems
	if !errors.As(err, &problems) || len(problems) != 1 {
		t.Fatalf("error %v, want exactly one problem", err)
	}
	t.Logf("refused with:\n%v", err)
	return problems[0]
}

// paste puts the lines of a snippet where each belongs: imports to the imports, role definitions into the service,
// method options into the rpc.
func paste(t *testing.T, source, method, snippet string) string {
	t.Helper()
	for line := range strings.Lines(snippet) {
		line = strings.TrimSpace(line)
		var after *regexp.Regexp
		switch {
		case strings.HasPrefix(line, "import "):
			after = regexp.MustCompile(`package [a-z0-9.]+;`)
		case strings.HasPrefix(line, "option (rolecall.v1.role)"):
			after = regexp.MustCompile(`service [A-Za-z]+ \{`)
		case strings.HasPrefix(line, "option (rolecall.v1."):
			after = regexp.MustCompile(`rpc ` + method + `\([^)]*\) returns \([^)]*\) \{`)
		default:
			continue
		}
		at := after.FindStringIndex(source)
		if at == nil {
			t.Fatalf("no place for %q in:\n%s", line, source)
		}
		source = source[:at[1]] + "\n" + line + source[at[1]:]
	}
	return source
}

func TestAServerWithoutAPolicyStartsOnceThePrintedSnippetIsPasted(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, source, role string }{
		{"service that defines roles", shop(`option (rolecall.v1.role) = {name: "shop.owner" description: "Own." includes: "shop.buyer"};`, ""), "shop.owner"},
		{"service that imports the annotations and defines no role",
			`syntax = "proto3"; package shop.v1; import "rolecall/v1/access.proto"; service Shop { rpc Buy(M) returns (M) {} } message M {}`, "shop.caller"},
		{"file that has never heard of annotations", `syntax = "proto3"; package shop.v1; service Shop { rpc Buy(M) returns (M) {} } message M {}`, "shop.caller"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			problem := refusal(t, test.source)
			pasted := paste(t, test.source, "Buy", problem.Snippet)
			table, err := compileShop(t, pasted, nil)
			if err != nil {
				t.Fatalf("with the snippet pasted:\n%s\n%v", pasted, err)
			}
			wantEqual(t, table.Method("/shop.v1.Shop/Buy").Roles, []string{test.role})
		})
	}
}

func TestAForeignServiceStartsOnceThePrintedAllowIsGiven(t *testing.T) {
	t.Parallel()
	info := map[string]grpc.ServiceInfo{"raw.v1.Bytes": {Methods: []grpc.MethodInfo{{Name: "Get"}, {Name: "Put", IsClientStream: true}}}}
	_, err := Compile(info, nil, nil, nil)
	var problems Problems
	if !errors.As(err, &problems) || len(problems) != 2 {
		t.Fatalf("error %v, want a problem for each method", err)
	}
	line := regexp.MustCompile(`^interceptors\.Allow\("([^"]+)", interceptors\.Rule\{Roles: \[\]string\{"([^"]+)"\}\}\)$`)
	allow := map[string]Rule{}
	for _, p := range problems {
		m := line.FindStringSubmatch(p.Snippet)
		if m == nil {
			t.Fatalf("snippet %q is not a line of Go that gives the guard a rule", p.Snippet)
		}
		allow[m[1]] = Rule{Roles: []string{m[2]}}
	}
	table, err := Compile(info, nil, allow, nil)
	if err != nil {
		t.Fatalf("with %v: %v", allow, err)
	}
	wantEqual(t, table.Method("/raw.v1.Bytes/Put").Roles, []string{"raw.caller"})
	wantEqual(t, table.Method("/raw.v1.Bytes/Put").ClientStream, true)

	allow["/raw.v1.Bytes/Get"] = Rule{Roles: []string{"raw.getter"}}
	if table, err = Compile(info, nil, allow, nil); err != nil {
		t.Fatalf("with a role of the service's own for each method, %v: %v", allow, err)
	}
	wantEqual(t, table.RoleNames(), []string{"raw.caller", "raw.getter", RoleAdmin, RoleReflector})
}

func TestEveryProblemIsToldOnceAndInOrder(t *testing.T) {
	t.Parallel()
	info := map[string]grpc.ServiceInfo{}
	for _, name := range []string{"b.B", "a.A", "c.C"} {
		info[name] = grpc.ServiceInfo{Methods: []grpc.MethodInfo{{Name: "Two"}, {Name: "One"}}}
	}
	_, err := Compile(info, nil, nil, nil)
	want := "the server's policy has 6 problem(s), and nothing is served until they are solved:"
	for _, m := range []string{"a.A/One", "a.A/Two", "b.B/One", "b.B/Two", "c.C/One", "c.C/Two"} {
		want += fmt.Sprintf("\n  /%s: no policy, and no descriptor that could hold one: give the guard the option\n      "+
			"interceptors.Allow(%q, interceptors.Rule{Roles: []string{%q}})", m, "/"+m, m[:1]+".caller")
	}
	wantEqual(t, err.Error(), want)
}

func TestAServiceThatCanOwnNoRoleGetsAFormToFillIn(t *testing.T) {
	t.Parallel()
	_, err := Compile(map[string]grpc.ServiceInfo{"Bare": {Methods: []grpc.MethodInfo{{Name: "Get"}}}}, nil, nil, nil)
	if err == nil || !strings.Contains(err.Error(), `interceptors.Allow("/Bare/Get", interceptors.Rule{Roles: []string{"<owner>.<role>"}})`) {
		t.Errorf("error %v, want the line with a form to fill in", err)
	}
}
