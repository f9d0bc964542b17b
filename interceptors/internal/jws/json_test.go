package jws_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"example.com/rolecall/interceptors/internal/jws"
)

func TestAnObjectIsReadByItsExactKeys(t *testing.T) {
	t.Parallel()
	object, err := jws.ParseObject([]byte(" {\"a\" : 1 ,\n\"A\":\t\"x\\\"y\\\\\", \"\\u0062\":[ 1 , {\"q\":[]} ],\"c\":{ },\"d\":null,\"e\":-1.5e3,\"\":true} "))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for key, value := range object {
		got[key] = string(value)
	}
	want := map[string]string{"a": "1", "A": `"x\"y\\"`, "b": `[ 1 , {"q":[]} ]`, "c": "{ }", "d": "null", "e": "-1.5e3", "": "true"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want (-), got (+):\n%s", diff)
	}
	if s, err := object.String("A"); err != nil || s != `x"y\` {
		t.Errorf("got %q, %v", s, err)
	}
}

func TestObjectsNestToADepthOfSixteen(t *testing.T) {
	t.Parallel()
	nest := func(n int) []byte {
		return []byte(strings.Repeat(`{"a":`, n-1) + "{}" + strings.Repeat("}", n-1))
	}
	if _, err := jws.ParseObject(nest(16)); err != nil {
		t.Errorf("depth 16: %v", err)
	}
	if _, err := jws.ParseObject(nest(17)); err == nil {
		t.Error("depth 17 was read")
	}
}
