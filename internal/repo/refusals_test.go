package repo_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	reasonName    = regexp.MustCompile(`^[A-Z]+(_[A-Z]+)*$`)
	reasonHeading = regexp.MustCompile(`(?m)^### ([A-Z_]+)$`)
	handshakeRow  = regexp.MustCompile("(?m)^\\| `([a-z_0-9]+)` \\|")
)

// literals returns the values of the string literals of a Go file.
func literals(t *testing.T, name, source string) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), name, source, parser.SkipObjectResolution)
	if err != nil {
		t.Fatalf("parse %s: %v", name, err)
	}
	var values []string
	ast.Inspect(file, func(node ast.Node) bool {
		if lit, ok := node.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if value, err := strconv.Unquote(lit.Value); err == nil {
				values = append(values, value)
			}
		}
		return true
	})
	return values
}

// coded returns the string literals that a Go file passes to a function beside a status code.
func coded(t *testing.T, name, source string) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), name, source, parser.SkipObjectResolution)
	if err != nil {
		t.Fatalf("parse %s: %v", name, err)
	}
	var values []string
	ast.Inspect(file, func(node ast.Node) bool {
		call, ok := node.(*ast.CallExpr)
		if !ok || !slices.ContainsFunc(call.Args, isCode) {
			return true
		}
		for _, arg := range call.Args {
			if lit, ok := arg.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if value, err := strconv.Unquote(lit.Value); err == nil {
					values = append(values, value)
				}
			}
		}
		return true
	})
	return values
}

func isCode(e ast.Expr) bool {
	selector, ok := e.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	of, ok := selector.X.(*ast.Ident)
	return ok && of.Name == "codes"
}

// Reasons are the upper-case words in the files that build an ErrorInfo, and those that others hand to a function together with
// a status code.
func TestEveryReasonHasAParagraphInRefusals(t *testing.T) {
	t.Parallel()
	var used []string
	for _, name := range files(t) {
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			continue
		}
		source := read(t, name)
		values := coded(t, name, source)
		if strings.Contains(source, "errdetails.ErrorInfo{") {
			values = append(values, literals(t, name, source)...)
		}
		for _, value := range values {
			if reasonName.MatchString(value) {
				used = append(used, value)
			}
		}
	}
	slices.Sort(used)
	used = slices.Compact(used)
	var told []string
	for _, m := range reasonHeading.FindAllStringSubmatch(read(t, "docs/refusals.md"), -1) {
		told = append(told, m[1])
	}
	slices.Sort(told)
	if diff := cmp.Diff(used, told); diff != "" {
		t.Errorf("reasons (-in the code +headings of docs/refusals.md):\n%s", diff)
	}
}

func TestEveryReasonOfAFailedHandshakeHasARowInRefusals(t *testing.T) {
	t.Parallel()
	const name = "interceptors/internal/identity/refused.go"
	file, err := parser.ParseFile(token.NewFileSet(), name, read(t, name), parser.SkipObjectResolution)
	if err != nil {
		t.Fatalf("parse %s: %v", name, err)
	}
	var used []string
	for _, decl := range file.Decls {
		consts, ok := decl.(*ast.GenDecl)
		if !ok || consts.Tok != token.CONST {
			continue
		}
		for _, spec := range consts.Specs {
			spec, ok := spec.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 || !strings.HasPrefix(spec.Names[0].Name, "Reason") {
				continue
			}
			if lit, ok := spec.Values[0].(*ast.BasicLit); ok {
				used = append(used, strings.Trim(lit.Value, `"`))
			}
		}
	}
	slices.Sort(used)
	var told []string
	for _, m := range handshakeRow.FindAllStringSubmatch(read(t, "docs/refusals.md"), -1) {
		told = append(told, m[1])
	}
	slices.Sort(told)
	if diff := cmp.Diff(used, told); diff != "" {
		t.Errorf("reasons of handshakes (-in the code +rows of docs/refusals.md):\n%s", diff)
	}
}
