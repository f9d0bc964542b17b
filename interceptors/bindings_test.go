package interceptors_test

import (
	"os"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
)

func TestABrokenFileChangesNothingAndIsReported(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	file := m.useFile(t)
	conn := m.dial(reader)
	must(t, balance(t, conn))
	good := file.guard.Status().PolicyVersion
	for _, content := range []string{"trustDomain: mesh.local\nbindings: [}", "", "trustDomain: other.local\n", roles + "surprise: true\n"} {
		file.write(t, content)
		eventually(t, "report of the broken file", func() bool { return file.guard.Status().PolicyError != nil })
		t.Log(file.guard.Status().PolicyError)
		must(t, balance(t, conn))
		if v := file.guard.Status().PolicyVersion; v != good {
			t.Errorf("policy version went from %s to %s", good, v)
		}
		file.write(t, roles)
		eventually(t, "end of the report", func() bool { return file.guard.Status().PolicyError == nil })
	}
	must(t, os.Remove(file.path))
	eventually(t, "report of the missing file", func() bool { return file.guard.Status().PolicyError != nil })
	must(t, balance(t, conn))
}

func TestARoleThatIsGivenWorksOnTheOpenConnection(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	file := m.useFile(t)
	conn := m.dial(nobody)
	refused(t, balance(t, conn), codes.PermissionDenied, "ROLE_REQUIRED")
	file.write(t, strings.Replace(roles, "/service/reader", "/service/nobody", 1))
	eventually(t, "the role", func() bool { return balance(t, conn) == nil })
}
