//go:build unix

package e2e_test

import (
	"errors"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/pki/agent"
)

var yamlBlock = regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")

// TestFilesThatTheUnitsReadAreAsDocumented gives each YAML file of the page about the units to the program that reads it.
func TestFilesThatTheUnitsReadAreAsDocumented(t *testing.T) {
	t.Parallel()
	h := newByHand(t, "mesh.local")
	h.create(t, "168h")
	seen := map[string]bool{}
	for _, block := range yamlBlock.FindAllStringSubmatch(readFile(t, filepath.Join(repository(t), "deploy", "systemd", "README.md")), -1) {
		kind, _, _ := strings.Cut(block[1], ":")
		seen[kind] = true
		path := h.path(kind + ".yaml")
		h.write(t, path, block[1])
		switch kind {
		case "trustDomain":
			mustRun(t, "roles", "check", "--roles", path)
		case "entries":
			if entries, err := agent.ReadEntries(path, spiffeid.RequireTrustDomainFromString(h.td)); err != nil || len(entries) != 2 {
				t.Errorf("entries.yaml: %d entries, %v\n%s", len(entries), err, block[1])
			}
		case "requesters":
			h.startAuthority(t, "--registrations", path)
			alice := h.issue(t, "alice")
			await(t, "the authority serves with the registrations", func() error {
				out, code := runRolecall(t, "probe", h.authority, "--service", "authority", "--cert", alice.Cert, "--key", alice.Key, "--bundle", filepath.Join(h.ca, "bundle.pem"))
				if code != 0 {
					return errors.New(out)
				}
				return nil
			})
		default:
			t.Errorf("nobody reads this file:\n%s", block[1])
		}
	}
	for _, kind := range []string{"trustDomain", "entries", "requesters"} {
		if !seen[kind] {
			t.Errorf("no file with %s is shown", kind)
		}
	}
}
