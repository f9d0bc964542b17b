package authz

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

func TestAnnotationsReadTheSameHoweverTheDescriptorWasMade(t *testing.T) {
	t.Parallel()
	files := ledgerFiles(t)
	tests := []struct {
		name  string
		files Resolver
	}{
		{"as the compiler made them", registry(t, files)},
		{"in unknown fields", rebuild(t, files, &protoregistry.Types{})},
		{"in a dynamic descriptor", rebuild(t, files, dynamicTypes(t, files))},
		{"with the generated Go types", rebuild(t, files, protoregistry.GlobalTypes)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			table, err := Compile(registered(test.files, ledger), test.files, nil, []string{"requires_proof", "exactly_once"})
			if err != nil {
				t.Fatalf("compile: %v", err)
			}
			wantEqual(t, table.RoleNames(), []string{"ledger.admin", "ledger.reader", "ledger.writer", RoleAdmin, RoleReflector})
			got := map[string][]string{}
			for _, m := range table.Methods() {
				got[m.Full] = m.Roles
				wantEqual(t, table.Names(m.Need), m.Roles)
			}
			wantEqual(t, got["/"+ledger+"/Transfer"], []string{"ledger.writer"})
			wantEqual(t, got["/"+ledger+"/GetBalance"], []string{"ledger.reader"})
			wantEqual(t, got["/"+ledger+"/ImportEntries"], []string{"ledger.admin", "ledger.writer"})
			wantEqual(t, table.Names(table.Closure([]string{"ledger.admin"})), []string{"ledger.admin", "ledger.reader", "ledger.writer"})
		})
	}
}

func TestBadAnnotationsInUnknownFieldsStopTheServerToo(t *testing.T) {
	t.Parallel()
	future := `syntax = "proto3";
package shop.v1;
import "google/protobuf/descriptor.proto";
extend google.protobuf.MethodOptions { bool requires_moon = 104879; string any_workload = 104871; bool explicit = 104873; bool define = 104876; }
extend google.protobuf.ServiceOptions { bool serves_moon = 104870; NewRole define_role = 104876; }
message NewRole { string name = 1; bool on_the_moon_only = 4; }
service Shop {
  option (serves_moon) = true;
  rpc Moon(M) returns (M) { option (requires_moon) = true; }
  rpc Text(M) returns (M) { option (any_workload) = "true"; }
  rpc False(M) returns (M) { option (explicit) = false; }
  rpc Define(M) returns (M) { option (define) = true; }
}
service Moon {
  option (define_role) = {name: "shop.astronaut" on_the_moon_only: true};
}
message M {}
`
	files := rebuild(t, compileProto(t, map[string]string{"shop.proto": future}), &protoregistry.Types{})
	_, err := Compile(registered(files, "shop.v1.Shop"), files, nil, nil)
	wantProblem(t, err, "/shop.v1.Shop/Moon", "option number 104879")
	wantProblem(t, err, "/shop.v1.Shop/Text", "option number 104871")
	wantProblem(t, err, "/shop.v1.Shop/False", "requires_user = false says nothing")
	wantProblem(t, err, "/shop.v1.Shop/Define", "option number 104876")
	wantProblem(t, err, "shop.v1.Shop", "option number 104870")
	wantProblem(t, err, "shop.v1.Moon", "has a field that means nothing to this version")
}

func TestOptionsThatNobodyInterpretedStopTheServer(t *testing.T) {
	t.Parallel()
	uninterpreted := []*descriptorpb.UninterpretedOption{{
		Name:        []*descriptorpb.UninterpretedOption_NamePart{{NamePart: proto.String("rolecall.v1.requires_role"), IsExtension: proto.Bool(true)}},
		StringValue: []byte("shop.buyer"),
	}}
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("shop.proto"), Package: proto.String("shop.v1"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: proto.String("M")}},
		Service: []*descriptorpb.ServiceDescriptorProto{{
			Name:    proto.String("Shop"),
			Options: &descriptorpb.ServiceOptions{UninterpretedOption: uninterpreted},
			Method: []*descriptorpb.MethodDescriptorProto{{
				Name: proto.String("Buy"), InputType: proto.String(".shop.v1.M"), OutputType: proto.String(".shop.v1.M"),
				Options: &descriptorpb.MethodOptions{UninterpretedOption: uninterpreted},
			}},
		}},
	}, nil)
	if err != nil {
		t.Fatalf("make descriptor: %v", err)
	}
	files := registry(t, []protoreflect.FileDescriptor{file})
	_, err = Compile(registered(files, "shop.v1.Shop"), files, nil, nil)
	wantProblem(t, err, "/shop.v1.Shop/Buy", "options are not interpreted")
	wantProblem(t, err, "shop.v1.Shop", "options are not interpreted")
}

func TestConditionsOnMessagesAndStreamsAreChecked(t *testing.T) {
	t.Parallel()
	source := `syntax = "proto3";
package shop.v1;
import "rolecall/v1/access.proto";
service Shop {
  rpc Up(stream M) returns (M) { option (rolecall.v1.any_workload) = true; option (rolecall.v1.requires_proof) = true; }
  rpc Down(Id) returns (stream M) { option (rolecall.v1.any_workload) = true; option (rolecall.v1.exactly_once) = true; option idempotency_level = IDEMPOTENT; }
  rpc None(M) returns (M) { option (rolecall.v1.any_workload) = true; option (rolecall.v1.exactly_once) = true; option idempotency_level = IDEMPOTENT; }
  rpc Bytes(B) returns (M) { option (rolecall.v1.any_workload) = true; option (rolecall.v1.exactly_once) = true; option idempotency_level = IDEMPOTENT; }
  rpc Many(R) returns (M) { option (rolecall.v1.any_workload) = true; option (rolecall.v1.exactly_once) = true; option idempotency_level = IDEMPOTENT; }
  rpc Good(Id) returns (M) { option (rolecall.v1.any_workload) = true; option (rolecall.v1.exactly_once) = true; option idempotency_level = IDEMPOTENT; }
}
message M {}
message Id { string request_id = 1; }
message B { bytes request_id = 1; }
message R { repeated string request_id = 1; }
`
	_, err := compileShop(t, source, nil, "requires_proof", "exactly_once")
	wantProblem(t, err, "/shop.v1.Shop/Up", "requires_proof on a stream of requests")
	wantProblem(t, err, "/shop.v1.Shop/Down", "exactly_once on a stream")
	for _, m := range []string{"None", "Bytes", "Many"} {
		wantProblem(t, err, "/shop.v1.Shop/"+m, "exactly_once needs a field `string request_id`")
	}
	if strings.Contains(err.Error(), "/Good") {
		t.Errorf("a valid method is reported:\n%v", err)
	}
}

func TestConditionsThatAFeatureEnforcesAreInTheTable(t *testing.T) {
	t.Parallel()
	table, err := compileShop(t, shop("", `option (rolecall.v1.requires_role) = "shop.buyer";
		option (rolecall.v1.requires_user_role) = "shop.buyer"; option (rolecall.v1.requires_proof) = true;
		option (rolecall.v1.exactly_once) = true; option idempotency_level = IDEMPOTENT;`), nil,
		"requires_user_role", "requires_proof", "exactly_once")
	if err != nil {
		t.Fatalf("compile: %v", err)
	}
	wantEqual(t, table.Method("/shop.v1.Shop/Buy").Conditions, Conditions{UserRoles: []string{"shop.buyer"}, User: true, Proof: true, ExactlyOnce: true})
}
