package up

import (
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/catalog"
	"example.com/rolecall/internal/mesh"
)

//go:embed roles.yaml
var sampleRoles string

// sampleTrustDomain is the one that the sample bindings are written for.
const sampleTrustDomain = "mesh.local"

// ensureRoles writes the sample bindings if there are none, and reads those that are there: what somebody edited is never
// overwritten, and a mistake in it is better told now, with its line, than by every service in its log.
func ensureRoles(d mesh.Dir, td spiffeid.TrustDomain) (*interceptors.Policy, error) {
	data, err := os.ReadFile(d.Roles())
	if errors.Is(err, fs.ErrNotExist) {
		data = []byte(strings.ReplaceAll(sampleRoles, sampleTrustDomain, td.Name()))
		err = mesh.WriteFile(d.Roles(), data, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("bindings: %w", err)
	}
	policy, err := interceptors.ReadPolicy(data, catalog.Descriptors()...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.Roles(), err)
	}
	if policy.TrustDomain != td.Name() {
		return nil, fmt.Errorf("%s is for trust domain %s and the root in this folder for %s: correct trustDomain in it, or move the file away to get a sample", d.Roles(), policy.TrustDomain, td)
	}
	return policy, nil
}

// rolesOf returns the roles that a member holds, empty if none.
func rolesOf(policy *interceptors.Policy, id spiffeid.ID) []string {
	for _, m := range policy.Members {
		if m.Member == id.String() {
			return m.Roles
		}
	}
	return []string{}
}
