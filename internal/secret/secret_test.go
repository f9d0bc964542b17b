package secret_test

import (
	"testing"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"

	"example.com/rolecall/internal/secret"
)

const file = `
syntax = "proto3";
message Login {
  string name = 1;
  string password = 2 [debug_redact = true];
  Login inner = 3;
  repeated Login list = 4;
  map<string, Login> by_name = 5;
  map<string, string> labels = 6;
}
`

func TestSecretsAreFoundAndClearedWhereverTheyAre(t *testing.T) {
	t.Parallel()
	compiler := protocompile.Compiler{Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{
		Accessor: protocompile.SourceAccessorFromMap(map[string]string{"login.proto": file}),
	})}
	compiled, err := compiler.Compile(t.Context(), "login.proto")
	if err != nil {
		t.Fatal(err)
	}
	login := compiled[0].Messages().Get(0)
	for _, tc := range []struct{ name, text, found, left string }{
		{"none", `{"name": "a", "inner": {"name": "b"}, "labels": {"password": "c"}}`, "", `{"name": "a", "inner": {"name": "b"}, "labels": {"password": "c"}}`},
		{"a field", `{"name": "a", "password": "p"}`, "password", `{"name": "a"}`},
		{"one of a message within", `{"inner": {"inner": {"password": "p"}}}`, "password", `{"inner": {"inner": {}}}`},
		{"one of a list", `{"list": [{"name": "a"}, {"password": "p"}, {"password": "q"}]}`, "password", `{"list": [{"name": "a"}, {}, {}]}`},
		{"one of a map", `{"byName": {"a": {"name": "a"}, "b": {"password": "p"}, "c": {}}}`, "password", `{"byName": {"a": {"name": "a"}, "b": {}, "c": {}}}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			m, left := dynamicpb.NewMessage(login), dynamicpb.NewMessage(login)
			if err := protojson.Unmarshal([]byte(tc.text), m); err != nil {
				t.Fatal(err)
			}
			if err := protojson.Unmarshal([]byte(tc.left), left); err != nil {
				t.Fatal(err)
			}
			if got := secret.Find(m); got != tc.found {
				t.Errorf("found %q, want %q", got, tc.found)
			}
			if secret.Clear(m); !proto.Equal(m, left) {
				t.Errorf("left is %v, want %v", m, left)
			}
			if got := secret.Find(m); got != "" {
				t.Errorf("found %q after all were cleared", got)
			}
		})
	}
}
