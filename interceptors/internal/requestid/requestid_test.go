package requestid

import (
	"regexp"
	"testing"
)

func TestNewUUIDsAreRandomOnesOfVersionFour(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	seen := map[string]bool{}
	for range 100 {
		id := New()
		if parsed, ok := Parse(id); !form.MatchString(id) || !ok || parsed != id || seen[id] {
			t.Fatalf("got %q (seen before: %v), want a random UUID of version 4", id, seen[id])
		}
		seen[id] = true
	}
}

// RFC 9562, appendix A.4: www.example.com in the name space of DNS.
func TestAChildIsTheUUIDOfVersionFive(t *testing.T) {
	t.Parallel()
	dns := [16]byte{0x6b, 0xa7, 0xb8, 0x10, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8}
	if got, want := Child(dns, "www.example.com"), "2ed6657d-e927-568b-95e1-2665a8aea6a2"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
