//go:build unix

package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	workloadpb "github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// nodeChecked is what Node's own crypto says of one X.509-SVID.
type nodeChecked struct {
	Serial   string `json:"serial"`
	LeafIsCA bool   `json:"leaf_is_ca"`
	KeyFits  bool   `json:"key_fits"`
	Chained  bool   `json:"chained"`
	Anchored bool   `json:"anchored"`
	NamesID  bool   `json:"names_id"`
	Valid    bool   `json:"valid"`
}

// nodeWorkload is what clients/node/workload.js prints.
type nodeWorkload struct {
	SPIFFEID   string      `json:"spiffe_id"`
	First      nodeChecked `json:"first"`
	Second     nodeChecked `json:"second"`
	SameBundle bool        `json:"same_bundle"`
	Token      struct {
		Alg      string   `json:"alg"`
		Good     bool     `json:"good"`
		Subject  string   `json:"subject"`
		Audience []string `json:"audience"`
	} `json:"token"`
	Validated     string `json:"validated"`
	LedgerSays    string `json:"ledger_says"`
	WithoutHeader string `json:"without_header"`
	OtherAudience string `json:"other_audience"`
	Error         string `json:"error"`
	Message       string `json:"message"`
}

// TestNodeWorkloadKnowsOnlyTheProtoOfTheWorkloadAPI runs a program without any SPIFFE library inside the mesh.
func TestNodeWorkloadKnowsOnlyTheProtoOfTheWorkloadAPI(t *testing.T) {
	t.Parallel()
	node, err := exec.LookPath("node")
	if err != nil {
		lacking(t, "Node is not installed")
	}
	if _, err := os.Stat(filepath.Join("clients", "node", "node_modules")); err != nil {
		lacking(t, "the Node client's packages are not installed")
	}
	running := startMesh(t, shortLife...)
	id := "spiffe://" + running.file.TrustDomain + "/service/shop"
	clients := filepath.Join(repository(t), "internal", "e2e", "clients")
	ctx, cancel := context.WithTimeout(t.Context(), clientTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, buildRolecall(t), "run", "--dir", running.dir, "--id", id, "--",
		node, filepath.Join(clients, "node", "workload.js"), filepath.Join(clients, "workload"), "gateway",
		"localhost:"+port(t, running.service(t, "ledger").Address), filepath.Join(repository(t), "proto"))
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := startCommand(cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("the Node workload: %v\n%s%s", err, stdout.String(), stderr.String())
	}
	var got nodeWorkload
	if err := json.Unmarshal(stdout.Bytes(), &got); err != nil {
		t.Fatalf("it printed no JSON: %v\n%s", err, stdout.String())
	}
	if got.First.Serial == got.Second.Serial {
		t.Errorf("the second message of the stream is the first certificate again, %s", got.First.Serial)
	}
	t.Logf("two certificates of one stream: %s, %s", got.First.Serial, got.Second.Serial)
	good := nodeChecked{KeyFits: true, Chained: true, Anchored: true, NamesID: true, Valid: true}
	want := nodeWorkload{
		SPIFFEID: id, First: good, Second: good, SameBundle: true, Validated: id,
		// Who may read a balance is another matter: the ledger knows the caller, and has no role for it.
		LedgerSays: "PERMISSION_DENIED", WithoutHeader: "INVALID_ARGUMENT", OtherAudience: "INVALID_ARGUMENT",
	}
	want.Token.Alg, want.Token.Good, want.Token.Subject, want.Token.Audience = "ES256", true, id, []string{"gateway"}
	want.First.Serial, want.Second.Serial = got.First.Serial, got.Second.Serial
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the Node workload (-want +got):\n%s", diff)
	}
}

// TestTheProtoOfTheWorkloadAPIIsTheStandards compares names and numbers with those that go-spiffe has.
func TestTheProtoOfTheWorkloadAPIIsTheStandards(t *testing.T) {
	t.Parallel()
	protoc, err := exec.LookPath("protoc")
	if err != nil {
		lacking(t, "protoc is not installed")
	}
	out := filepath.Join(t.TempDir(), "workload.binpb")
	if said, err := exec.CommandContext(t.Context(), protoc, "-Iclients/workload", "--include_imports", "--descriptor_set_out="+out, "workload.proto").CombinedOutput(); err != nil {
		t.Fatalf("protoc: %v\n%s", err, said)
	}
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal([]byte(readFile(t, out)), &set); err != nil {
		t.Fatal(err)
	}
	files, err := protodesc.NewFiles(&set)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := files.FindFileByPath("workload.proto")
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := protoregistry.GlobalFiles.FindFileByPath(workloadpb.File_workload_proto.Path())
	if err != nil {
		t.Fatal(err)
	}
	want := described(theirs)
	for name, have := range described(ours) {
		if expected, ok := want[name]; !ok || expected != have {
			t.Errorf("%s is %s, the standard's is %q", name, have, expected)
		}
	}
}

// described returns the methods and fields of a file, by name.
func described(file protoreflect.FileDescriptor) map[string]string {
	all := map[string]string{}
	for i := range file.Services().Len() {
		methods := file.Services().Get(i).Methods()
		for j := range methods.Len() {
			m := methods.Get(j)
			all[string(m.FullName())] = string(m.Input().FullName()) + " to " + string(m.Output().FullName())
			if m.IsStreamingServer() {
				all[string(m.FullName())] += ", a stream"
			}
		}
	}
	for i := range file.Messages().Len() {
		fields := file.Messages().Get(i).Fields()
		for j := range fields.Len() {
			f := fields.Get(j)
			all[string(f.FullName())] = fmt.Sprintf("number %d, %s, %s", f.Number(), f.Cardinality(), f.Kind())
		}
	}
	return all
}
