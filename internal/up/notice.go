package up

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/catalog"
)

// notice keeps something that the table is to say once the mesh is up.
func (r *run) notice(format string, args ...any) {
	r.notices = append(r.notices, fmt.Sprintf(format, args...))
}

// needs are bindings without which nobody logs in. A roles.yaml from before there was a service tokens has none of them.
var needs = []struct{ caller, method, role, member string }{
	{catalog.Tokens, "/users.v1.UsersService/VerifyPassword", "users.verifier", "spiffe://%s/service/" + catalog.Tokens},
	{"users", "/tokens.v1.TokensService/WatchRevocations", "tokens.verifier", "spiffe://%s/service/*"},
}

// missingBindings returns what to add to bindings so that users can log in; empty for nothing. The file belongs to whoever
// has edited it: it is not added to.
func missingBindings(policy *interceptors.Policy, td spiffeid.TrustDomain) string {
	var lines strings.Builder
	for _, n := range needs {
		if !policy.MayCall(catalog.ID(td, n.caller), n.method) {
			fmt.Fprintf(&lines, "  - role: %s\n    members: [\"%s\"]\n", n.role, fmt.Sprintf(n.member, td.Name()))
		}
	}
	if lines.Len() > 0 && !mayLogin(policy, td, sampleOperators...) {
		fmt.Fprintf(&lines, "  - role: tokens.login\n    members: [%s]\n", catalog.OperatorID(td, sampleOperators[0]))
	}
	return lines.String()
}

// loginOperator returns the operator through whom the table shows a login: bob, who serves customers, else alice; "" if
// nobody can log in.
func loginOperator(policy *interceptors.Policy, td spiffeid.TrustDomain) string {
	for _, name := range []string{"bob", "alice"} {
		if missingBindings(policy, td) == "" && mayLogin(policy, td, name) {
			return name
		}
	}
	return ""
}

// mayLogin tells whether one of the operators may log users in.
func mayLogin(policy *interceptors.Policy, td spiffeid.TrustDomain, names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		return policy.MayCall(catalog.OperatorID(td, name), "/tokens.v1.TokensService/Login")
	})
}
