package authz

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
)

func TestADescriptionSaysWhatACallerNeedsToKnow(t *testing.T) {
	t.Parallel()
	const options = `option (rolecall.v1.any_workload) = true;`
	source := `syntax = "proto3";
package shop.v1;
import "rolecall/v1/access.proto";
service Shop {
  rpc Plain(M) returns (M) { ` + options + ` }
  rpc Signed(M) returns (stream M) { ` + options + ` option (rolecall.v1.requires_proof) = true; }
  rpc Once(M) returns (M) { ` + options + ` option (rolecall.v1.exactly_once) = true; option idempotency_level = IDEMPOTENT; }
  rpc Read(M) returns (M) { ` + options + ` option idempotency_level = NO_SIDE_EFFECTS; }
  rpc Pour(stream M) returns (M) { ` + options + ` option idempotency_level = IDEMPOTENT; }
  rpc False(M) returns (M) { ` + options + ` option (rolecall.v1.requires_proof) = false; }
}
message M { string request_id = 1; }
`
	files := compileProto(t, map[string]string{"shop.proto": source})
	file := files[slices.IndexFunc(files, func(f protoreflect.FileDescriptor) bool { return f.Path() == "shop.proto" })]
	var got []Description
	methods := file.Services().Get(0).Methods()
	for i := range methods.Len() {
		got = append(got, describe(methods.Get(i)))
	}
	none := []string{}
	for i := range got {
		if len(got[i].Conditions.UserRoles) == 0 {
			got[i].Conditions.UserRoles = none
		}
	}
	wantEqual(t, got, []Description{
		{Full: "/shop.v1.Shop/Plain", Conditions: Conditions{UserRoles: none}},
		{Full: "/shop.v1.Shop/Signed", Conditions: Conditions{UserRoles: none, Proof: true}, ServerStream: true},
		{Full: "/shop.v1.Shop/Once", Conditions: Conditions{UserRoles: none, ExactlyOnce: true}, Idempotent: true},
		{Full: "/shop.v1.Shop/Read", Conditions: Conditions{UserRoles: none}, Idempotent: true},
		{Full: "/shop.v1.Shop/Pour", Conditions: Conditions{UserRoles: none}, Idempotent: true, ClientStream: true},
		{Full: "/shop.v1.Shop/False", Conditions: Conditions{UserRoles: none}},
	})
}
