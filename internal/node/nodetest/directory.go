package nodetest

import (
	"testing"

	"example.com/rolecall/rolecalltest"
)

// Directory starts a keys service. Services and clients of the mesh announce their keys to it and find those of others.
func (m *Mesh) Directory(t *testing.T) *rolecalltest.Keys {
	t.Helper()
	keys := rolecalltest.NewKeys(m.CA)
	m.Keys.lead(keys.Target())
	return keys
}
