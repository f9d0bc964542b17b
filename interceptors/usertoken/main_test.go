package usertoken_test

import (
	"flag"
	"testing"

	"example.com/rolecall/internal/leaktest"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	leaktest.Main(m)
}
