package interceptors_test

import (
	"flag"
	"testing"

	"example.com/rolecall/internal/leaktest"
)

// TestMain runs more tests at a time than there are cores: most of them wait for a certificate to expire.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	leaktest.Main(m)
}
