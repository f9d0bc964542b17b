package authz

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

func mustBindings(t testing.TB, text string) *Bindings {
	t.Helper()
	b, err := ParseBindings([]byte(text))
	if err != nil {
		t.Fatalf("parse bindings:\n%s\n%v", text, err)
	}
	return b
}

func mustID(t testing.TB, text string) spiffeid.ID {
	t.Helper()
	id, err := spiffeid.FromString(text)
	if err != nil {
		t.Fatalf("SPIFFE ID %q: %v", text, err)
	}
	return id
}

func wantEqual(t testing.TB, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(spiffeid.ID{})); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
}

func TestABindingsFileIsReadWhole(t *testing.T) {
	t.Parallel()
	b := mustBindings(t, `# who may do what
trustDomain: mesh.local
bindings:
  - role: ledger.writer
    members:
      - spiffe://mesh.local/service/orders
      - 'spiffe://partner.example/service/orders'
    reason: "pays for orders"
  - {role: ledger.reader, members: ["spiffe://mesh.local/operator/*"]}
  - role: ledger.admin
    members: []
denied:
  - member: spiffe://mesh.local/service/stolen
  - keySha256: 5f1C000000000000000000000000000000000000000000000000000000000001
    reason: laptop lost on 3 May
`)
	type member struct {
		Text, ID string
		Line     int
	}
	type binding struct {
		Role, Reason string
		Line         int
		Members      []member
	}
	var got []binding
	for _, x := range b.Bindings {
		y := binding{Role: x.Role, Reason: x.Reason, Line: x.Line}
		for _, m := range x.Members {
			id, _ := m.ID()
			y.Members = append(y.Members, member{m.Text, id.String(), m.Line})
		}
		got = append(got, y)
	}
	wantEqual(t, got, []binding{
		{"ledger.writer", "pays for orders", 4, []member{
			{"spiffe://mesh.local/service/orders", "spiffe://mesh.local/service/orders", 6},
			{"spiffe://partner.example/service/orders", "spiffe://partner.example/service/orders", 7}}},
		{"ledger.reader", "", 9, []member{{"spiffe://mesh.local/operator/*", "", 9}}},
		{"ledger.admin", "", 10, nil},
	})
	wantEqual(t, b.Denials, []Denial{
		{Member: mustID(t, "spiffe://mesh.local/service/stolen"), Reason: "line 13 of the bindings", Line: 13},
		{Key: [32]byte{0: 0x5f, 1: 0x1c, 31: 1}, HasKey: true, Reason: "laptop lost on 3 May", Line: 14},
	})
	wantEqual(t, b.TrustDomain.Name(), "mesh.local")
	if len(b.Version) != 12 || strings.Trim(b.Version, "0123456789abcdef") != "" {
		t.Errorf("version %q, want 12 hexadecimal digits", b.Version)
	}
}

func TestABindingsFileIsReadStrictly(t *testing.T) {
	t.Parallel()
	const head = "trustDomain: mesh.local\n"
	binding := func(member string) string {
		return head + "bindings:\n  - role: ledger.reader\n    members:\n      - " + member + "\n"
	}
	role := func(name string) string { return head + "bindings:\n  - role: " + name + "\n    members: []\n" }
	tests := []struct{ attack, file, want string }{
		{"empty file", "", "the file is empty"},
		{"file of comments", "# nothing\n", "the file is empty"},
		{"null document", "---\n", "no value: a map of keys and values"},
		{"list at the top", "- a\n", "1:1: a map of keys and values is needed here, not a list"},
		{"text at the top", "mesh.local\n", "1:1: a map of keys and values is needed here, not a single value"},
		{"no trust domain", "bindings: []\n", "1:1: trustDomain is missing"},
		{"trust domain as an ID", "trustDomain: spiffe://mesh.local\n", `1:14: "spiffe://mesh.local" is not a trust domain's name`},
		{"trust domain in upper case", "trustDomain: Mesh.local\n", `1:14: "Mesh.local" is not a trust domain's name`},
		{"trust domain with a port", "trustDomain: mesh.local:443\n", "1:14: "},
		{"overlong trust domain", "trustDomain: " + strings.Repeat("a", 256) + "\n", "1:14: "},
		{"unknown key at the top", head + "binding: []\n", `2:1: unknown key "binding": allowed are bindings, denied, trustDomain`},
		{"unknown key in a binding", head + "bindings:\n  - role: a.b\n    members: []\n    unless: []\n", `5:5: unknown key "unless": allowed are members, reason, role`},
		{"key in snake case", head + "denied:\n  - key_sha256: x\n", `3:5: unknown key "key_sha256": allowed are keySha256, member, reason`},
		{"key in another case", head + "Bindings: []\n", `2:1: unknown key "Bindings"`},
		{"duplicate key", head + "denied: []\nbindings: []\ndenied: []\n", `4:1: key "denied" is there twice`},
		{"duplicate members in a binding", head + "bindings:\n  - role: a.b\n    members: []\n    members: []\n", `5:5: key "members" is there twice`},
		{"anchor", head + "bindings: &x []\n", "2:11: an anchor (&x)"},
		{"alias", head + "bindings:\n  - {role: a.b, members: &m []}\n  - {role: a.c, members: *m}\n", "4:26: an alias (*m)"},
		{"merge key", head + "bindings:\n  - <<: {role: a.b}\n    members: []\n", "3:5: a merge (<<)"},
		{"tag", head + "bindings:\n  - {role: !!str a.b, members: []}\n", "3:12: a tag (!!str)"},
		{"binary tag", head + "bindings:\n  - {role: !!binary YS5i, members: []}\n", "3:12: a tag (!!binary)"},
		{"second document", head + "---\ntrustDomain: evil.example\n", "a second document"},
		{"bindings as a map", head + "bindings: {role: a.b}\n", "2:11: a list is needed here, not keys with values"},
		{"members as text", head + "bindings:\n  - {role: a.b, members: spiffe://mesh.local/a}\n", "3:26: a list is needed here, not a single value"},
		{"members without a value", head + "bindings:\n  - role: a.b\n    members:\n", "no value: a list is needed here"},
		{"binding without members", head + "bindings:\n  - role: a.b\n", "3:5: members is missing"},
		{"binding without a role", head + "bindings:\n  - members: []\n", "3:5: role is missing"},
		{"null binding", head + "bindings:\n  -\n", "no value: a map of keys and values is needed here"},
		{"role as a number", role("12"), "3:11: 12 is a int for YAML: write it in quotes"},
		{"role as a truth value", role("true"), "3:11: true is a bool for YAML: write it in quotes"},
		{"empty role", role(`""`), "3:11: the text is empty"},
		{"role with regular-expression characters", role("ledger.*"), `3:11: "ledger.*" is not a role's name`},
		{"role with alternatives", role(`"ledger.(reader|writer)"`), "is not a role's name"},
		{"role in upper case", role("Ledger.reader"), "is not a role's name"},
		{"role without an owner", role("reader"), "is not a role's name"},
		{"role with an empty segment", role("ledger..reader"), "is not a role's name"},
		{"role with a line break", role(`"ledger.reader\n"`), "is not a role's name"},
		{"overlong role", role("a." + strings.Repeat("b", 254)), "the role's name has 256 bytes"},
		{"member with regular-expression characters", binding(`"spiffe://mesh.local/service/.*"`), `5:9: "spiffe://mesh.local/service/.*" is not a SPIFFE ID`},
		{"member with alternatives", binding(`"spiffe://mesh.local/(a|b)"`), "is not a SPIFFE ID"},
		{"wildcard inside a segment", binding(`"spiffe://mesh.local/service/ord*"`), "is not a SPIFFE ID"},
		{"wildcard in the middle", binding(`"spiffe://mesh.local/*/orders"`), "is not a SPIFFE ID"},
		{"wildcard for part of a path", binding(`"spiffe://mesh.local/service*"`), "there are no other patterns"},
		{"two wildcards", binding(`"spiffe://mesh.local/*/*"`), "there are no other patterns"},
		{"double star", binding(`"spiffe://mesh.local/**"`), "is not a SPIFFE ID"},
		{"wildcard for the trust domain", binding(`"spiffe://*"`), "there are no other patterns"},
		{"star alone", binding(`"*"`), "is not a SPIFFE ID"},
		{"wildcard after an empty segment", binding(`"spiffe://mesh.local//*"`), "there are no other patterns"},
		{"wildcard in a foreign trust domain", binding(`"spiffe://partner.example/operator/*"`), `5:9: "spiffe://partner.example/operator/*" is a wildcard for trust domain partner.example`},
		{"wildcard in a sub-domain", binding(`"spiffe://eve.mesh.local/*"`), "is a wildcard for trust domain eve.mesh.local"},
		{"member without a path", binding("spiffe://mesh.local"), "names a trust domain, not a workload"},
		{"member with a trailing slash", binding("spiffe://mesh.local/a/"), "is not a SPIFFE ID"},
		{"member with dot segments", binding("spiffe://mesh.local/a/../b"), "is not a SPIFFE ID"},
		{"member with percent-encoding", binding("spiffe://mesh.local/a%2Fb"), "is not a SPIFFE ID"},
		{"member with a port", binding("spiffe://mesh.local:443/a"), "is not a SPIFFE ID"},
		{"member with userinfo", binding("spiffe://eve@mesh.local/a"), "is not a SPIFFE ID"},
		{"member with a query", binding("spiffe://mesh.local/a?b"), "is not a SPIFFE ID"},
		{"member of another scheme", binding("https://mesh.local/a"), "is not a SPIFFE ID"},
		{"overlong member", binding("spiffe://mesh.local/" + strings.Repeat("a", 2048)), "2048 bytes at most"},
		{"member as a map", binding("id: spiffe://mesh.local/a"), "5:9: text is needed here, not keys with values"},
		{"empty denial", head + "denied:\n  - reason: why not\n", "3:5: a denial needs a member, a keySha256, or both"},
		{"wildcard in a denial", head + "denied:\n  - member: \"spiffe://mesh.local/*\"\n", "a denial names one ID in full"},
		{"denied trust domain", head + "denied:\n  - member: spiffe://evil.example\n", "names a trust domain, not a workload"},
		{"short key", head + "denied:\n  - keySha256: 5f1c\n", `3:16: "5f1c" is not a SHA-256: 64 hexadecimal digits are needed`},
		{"key that is not hexadecimal", head + "denied:\n  - keySha256: " + strings.Repeat("zz", 32) + "\n", "is not a SHA-256"},
		{"key with colons", head + "denied:\n  - keySha256: " + strings.Repeat("aa:", 31) + "aa\n", "is not a SHA-256"},
		{"key as a number", head + "denied:\n  - keySha256: " + strings.Repeat("1", 64) + "\n", "write it in quotes"},
		{"text that is not UTF-8", head + "# \xff\n", "not UTF-8"},
		{"syntax error", head + "bindings: [\n", "line "},
		{"deep nesting", head + "bindings: " + strings.Repeat("[", 100_000) + "\n", "exceeded max depth"},
		{"deep nesting that is closed", head + "bindings: " + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + "\n", "2:12: a map of keys and values is needed here"},
		{"too large a file", head + strings.Repeat("# padding\n", MaxBindings/10), "at most 4194304 are read"},
	}
	for _, test := range tests {
		t.Run(test.attack, func(t *testing.T) {
			t.Parallel()
			b, err := ParseBindings([]byte(test.file))
			if err == nil {
				t.Fatalf("read as %+v, want an error that says %q", b, test.want)
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %q, want one that says %q", err, test.want)
			}
		})
	}
}

func TestAFileWithManyMistakesTellsTheFirstOnes(t *testing.T) {
	t.Parallel()
	_, err := ParseBindings([]byte("trustDomain: mesh.local\nbindings:\n" + strings.Repeat("  - {role: X, members: []}\n", 50)))
	if err == nil || strings.Count(err.Error(), "is not a role's name") != maxReported || !strings.Contains(err.Error(), "and 30 more") {
		t.Errorf("error %v, want %d mistakes and the number of the others", err, maxReported)
	}
}

func FuzzParseBindings(f *testing.F) {
	f.Add([]byte("trustDomain: mesh.local\nbindings:\n  - role: ledger.reader\n    members: [\"spiffe://mesh.local/operator/*\"]\n"))
	f.Add([]byte("trustDomain: mesh.local\ndenied:\n  - keySha256: 5f1c\n    member: spiffe://mesh.local/a\n"))
	f.Add([]byte("a: &a [*a, <<: {}]\n---\n!!binary x"))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := ParseBindings(data)
		if err != nil {
			return
		}
		for _, binding := range b.Bindings {
			if checkRoleName(binding.Role) != nil {
				t.Errorf("role %q was accepted", binding.Role)
			}
			for _, m := range binding.Members {
				id, one := m.ID()
				if one && (id.Path() == "" || id.String() != m.Text) || !one && !strings.HasPrefix(m.Text, "spiffe://"+b.TrustDomain.Name()+"/") {
					t.Errorf("member %q was accepted", m.Text)
				}
			}
		}
		for _, d := range b.Denials {
			if d.Member.IsZero() && !d.HasKey {
				t.Errorf("a denial of everyone was accepted: %+v", d)
			}
		}
	})
}
