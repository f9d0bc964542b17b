package repo_test

import (
	"strings"
	"testing"
)

// rule says which packages of this repository the packages of one folder may import; more come from other modules and
// from the folder itself. Tests may import more.
type rule struct {
	folder string // and all below it that no longer row names
	may    []string
}

// importRules is the table of who may import whom. A package is judged by the longest row that covers it.
var importRules = []rule{
	{"gen", nil},
	{"interceptors", []string{"gen/rolecall"}},
	{"interceptors/usertoken", []string{"gen/rolecall", "gen/tokens", "interceptors"}},
	{"interceptors/proof", []string{"gen/rolecall", "gen/keys", "interceptors"}},
	{"pki", nil},
	{"rolecalltest", []string{"gen/rolecall", "gen/keys", "gen/tokens", "interceptors", "pki"}},
	{"services", []string{"gen", "interceptors", "internal/field", "internal/jwk", "internal/node", "internal/page", "internal/refusal", "internal/store", "internal/watch"}},
	{"services/authority", []string{"gen", "interceptors", "internal/field", "internal/node", "internal/refusal", "internal/store", "pki"}},
	{"internal", []string{"gen", "interceptors", "pki", "services", "internal"}},
	{"internal/jwk", nil},
	{"internal/refusal", nil},
	{"internal/store", []string{"interceptors"}}, // exactlyonce, which runs handlers in its transactions
	{"internal/watch", []string{"internal/store"}},
	{"internal/node", []string{"gen", "interceptors", "internal/store"}},
	{"internal/node/nodetest", []string{"gen", "interceptors", "internal/node", "internal/store", "rolecalltest"}},
	{"internal/repo", nil},
	{"cmd", []string{"gen", "interceptors", "internal", "pki", "services"}},
	// An adopter has what is public and nothing else.
	{"examples", []string{"gen", "interceptors", "rolecalltest"}},
}

// under tells whether a package, relative to the module, is the folder or lies below it.
func under(pkg, folder string) bool {
	return pkg == folder || strings.HasPrefix(pkg, folder+"/")
}

// ruleFor returns the longest row that covers the package.
func ruleFor(pkg string) (rule, bool) {
	var found rule
	for _, r := range importRules {
		if under(pkg, r.folder) && len(r.folder) > len(found.folder) {
			found = r
		}
	}
	return found, found.folder != ""
}

// allowed tells why pkg may not import imported; "" if it may.
func allowed(pkg, imported string) string {
	r, ok := ruleFor(pkg)
	if !ok {
		return "no row of the table of who may import whom covers " + pkg
	}
	// Services meet over gRPC alone, and so do not share code: not even one folder of services is theirs.
	if under(pkg, "services") && under(imported, "services") && !under(imported, serviceOf(pkg)) {
		return "a service never imports another; call it over gRPC"
	}
	if under(imported, r.folder) {
		return ""
	}
	for _, folder := range r.may {
		if under(imported, folder) {
			return ""
		}
	}
	return "only " + strings.Join(append(r.may, "libraries"), ", ") + " may be imported from " + r.folder
}

// serviceOf returns services/x for a package below it.
func serviceOf(pkg string) string {
	parts := strings.SplitN(pkg, "/", 3)
	return strings.Join(parts[:min(2, len(parts))], "/")
}

func TestPackagesImportOnlyWhatTheirFolderMay(t *testing.T) {
	t.Parallel()
	for _, goos := range platforms {
		seen := 0
		for _, p := range goList(t, goos, "./...") {
			pkg := strings.TrimPrefix(p.ImportPath, modulePath+"/")
			for _, path := range p.Imports {
				imported, ours := strings.CutPrefix(path, modulePath+"/")
				if !ours {
					continue
				}
				seen++
				if why := allowed(pkg, imported); why != "" {
					t.Errorf("%s: %s imports %s: %s", goos, pkg, imported, why)
				}
			}
		}
		if seen == 0 {
			t.Errorf("%s: go list told of no import within the module", goos)
		}
	}
}

func TestTableOfImportsRefusesWhatItShould(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name          string
		pkg, imported string
		want          bool
	}{
		{"the security layer may not know the certificate authority", "interceptors/internal/identity", "pki", false},
		{"the security layer may read the annotations", "interceptors/internal/authz", "gen/rolecall/v1", true},
		{"the security layer may not know a service's messages", "interceptors", "gen/ledger/v1", false},
		{"a feature may know the service that it asks", "interceptors/usertoken", "gen/tokens/v1", true},
		{"a feature may not know other services", "interceptors/usertoken", "gen/users/v1", false},
		{"the certificate authority may not know the security layer", "pki/agent", "interceptors", false},
		{"the agent may use the folder it lies in", "pki/agent", "pki", true},
		{"a service may not import another", "services/orders", "services/ledger", false},
		{"a service may import a part of its own", "services/orders", "services/orders/migrations", true},
		{"a service other than the authority may not sign", "services/ledger", "pki", false},
		{"the authority may sign", "services/authority", "pki", true},
		{"generated code may import generated code", "gen/orders/v1", "gen/ledger/v1", true},
		{"an adopter's service may not import what is internal", "examples/billing", "internal/node", false},
		{"a folder nobody thought of is refused", "surprise", "gen/rolecall/v1", false},
		{"a folder whose name begins like another's is not that folder", "pkix", "pki", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if why := allowed(test.pkg, test.imported); (why == "") != test.want {
				t.Errorf("%s imports %s: got %q, want allowed = %v", test.pkg, test.imported, why, test.want)
			}
		})
	}
}
