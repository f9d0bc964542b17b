package access_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	billingv1 "example.com/rolecall/examples/billing/gen/billing/v1"
	"example.com/rolecall/internal/access"
	"example.com/rolecall/internal/cli"
)

const bindings = `trustDomain: mesh.local
bindings:
  - role: ledger.reader
    members: [spiffe://mesh.local/operator/bob, spiffe://other.org/service/eve]
  - role: ledger.writer
    members: [spiffe://mesh.local/service/orders, spiffe://mesh.local/service/orders]
  - role: billing.reader
    members: [spiffe://mesh.local/operator/bob]
`

func write(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// descriptorSet writes the billing example's files, with all that they import, as buf and protoc do.
func descriptorSet(t *testing.T) string {
	t.Helper()
	var set descriptorpb.FileDescriptorSet
	seen := map[string]bool{}
	var add func(protoreflect.FileDescriptor)
	add = func(file protoreflect.FileDescriptor) {
		if seen[file.Path()] {
			return
		}
		seen[file.Path()] = true
		for i := range file.Imports().Len() {
			add(file.Imports().Get(i).FileDescriptor)
		}
		set.File = append(set.File, protodesc.ToFileDescriptorProto(file))
	}
	add(billingv1.File_billing_v1_billing_proto)
	data, err := proto.Marshal(&set)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, "services.binpb", data)
}

func TestTheMatrixSaysWhoMayCallWhat(t *testing.T) {
	t.Parallel()
	policy, err := access.Read(write(t, "roles.yaml", []byte(bindings)), nil)
	if err != nil {
		t.Fatal(err)
	}
	matrix := access.NewMatrix(policy)
	got := map[string]access.Method{}
	for _, m := range matrix.Methods {
		got[m.Method] = m
	}
	want := access.Method{
		Method: "/ledger.v1.LedgerService/Transfer", Roles: []string{"ledger.writer"}, Proof: true, ExactlyOnce: true,
		Callers: []string{"spiffe://mesh.local/service/orders"},
	}
	if diff := cmp.Diff(want, got[want.Method]); diff != "" {
		t.Errorf("Transfer (-want +got):\n%s", diff)
	}
	var text bytes.Buffer
	matrix.Table().Write(cli.Plain(&text))
	for _, line := range []string{
		"ledger.v1.LedgerService/GetBalance ledger.reader /operator/bob /service/orders spiffe://other.org/service/eve",
		"ledger.v1.LedgerService/ImportEntries ledger.admin + ledger.writer nobody",
		"authority.v1.AuthorityService/GetBundle any workload all of mesh.local",
	} {
		if !strings.Contains(squeeze(text.String()), line+"\n") {
			t.Errorf("the table has no line %q:\n%s", line, text.String())
		}
	}
}

// squeeze makes one space of many.
func squeeze(text string) string {
	var squeezed strings.Builder
	for line := range strings.Lines(text) {
		squeezed.WriteString(strings.Join(strings.Fields(line), " ") + "\n")
	}
	return squeezed.String()
}

func TestACheckTellsMistakesFromNotices(t *testing.T) {
	t.Parallel()
	roles := write(t, "roles.yaml", []byte(bindings))
	for _, test := range []struct {
		name        string
		descriptors []string
		mistakes    []string // kind and line
	}{
		{"of the services of this binary", nil, []string{"member-duplicate 6", "role-unknown 7"}},
		{"of an adopter's service too", []string{descriptorSet(t)}, []string{"member-duplicate 6"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			policy, err := access.Read(roles, test.descriptors)
			if err != nil {
				t.Fatal(err)
			}
			check := access.NewCheck(roles, policy)
			var mistakes []string
			foreign := false
			for _, f := range check.Findings {
				if f.Mistake {
					mistakes = append(mistakes, f.Kind+" "+strconv.Itoa(f.Line))
				}
				foreign = foreign || f.Kind == "member-foreign" && f.Line == 4
			}
			if diff := cmp.Diff(test.mistakes, mistakes); diff != "" || check.Mistakes != len(mistakes) {
				t.Errorf("mistakes (-want +got):\n%s\nof %+v", diff, check.Findings)
			}
			if !foreign {
				t.Errorf("no notice of the foreign member in line 4: %+v", check.Findings)
			}
			var text bytes.Buffer
			check.Table().Write(cli.Plain(&text))
			if want := roles + ":6 "; !strings.Contains(text.String(), want) {
				t.Errorf("the table names no %q:\n%s", want, text.String())
			}
		})
	}
}

func TestWhatCannotBeReadIsSaidWithItsFile(t *testing.T) {
	t.Parallel()
	good := write(t, "roles.yaml", []byte(bindings))
	bad := write(t, "bad.yaml", []byte("trustDomain: mesh.local\nbindings:\n  - rolle: x\n"))
	junk := write(t, "junk.binpb", []byte("no descriptors"))
	for _, test := range []struct {
		name        string
		roles       string
		descriptors []string
		want        []string
	}{
		{"an unknown key in the bindings", bad, nil, []string{bad, "3"}},
		{"bindings that are not there", "/nowhere/roles.yaml", nil, []string{"/nowhere/roles.yaml"}},
		{"descriptors that are none", good, []string{junk}, []string{junk, "buf build"}},
		{"descriptors of no service", good, []string{write(t, "empty.binpb", nil)}, []string{"describes no service"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := access.Read(test.roles, test.descriptors)
			for _, want := range test.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want an error with %q", err, want)
				}
			}
		})
	}
}
