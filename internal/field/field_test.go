package field_test

import (
	"math"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/rolecall/internal/field"
)

func TestFields(t *testing.T) {
	t.Parallel()
	text := func(value string) error { return field.Text("f", value, 1, 5) }
	id := func(value string) error { return field.ID("f", value) }
	currency := func(value string) error { return field.Currency("f", value) }
	for name, tc := range map[string]struct {
		check func(string) error
		value string
		good  bool
	}{
		"text of five characters in ten bytes": {text, "üüüüü", true},
		"text of six characters":               {text, "abcdef", false},
		"empty text":                           {text, "", false},
		"text with a NUL":                      {text, "a\x00", false},
		"text with a line break":               {text, "a\nb", false},
		"text with a C1 control":               {text, "a\u0085", false},
		"an ID of a UUID":                      {id, "01930d5e-7c1a-7000-8000-000000000000", true},
		"an ID of 64":                          {id, strings.Repeat("a", 64), true},
		"an ID of 65":                          {id, strings.Repeat("a", 65), false},
		"an empty ID":                          {id, "", false},
		"an ID with a slash":                   {id, "a/b", false},
		"an ID with a line break at its end":   {id, "a\n", false},
		"EUR":                                  {currency, "EUR", true},
		"eur":                                  {currency, "eur", false},
		"four letters":                         {currency, "EURO", false},
		"letters that look like others":        {currency, "ЕUR", false},
	} {
		if err := tc.check(tc.value); (err == nil) != tc.good || !tc.good && status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %q: got %v, want good: %v", name, tc.value, err, tc.good)
		}
	}
	for amount, good := range map[int64]bool{1: true, math.MaxInt64: true, 0: false, -1: false, math.MinInt64: false} {
		if err := field.Amount("f", amount); (err == nil) != good {
			t.Errorf("amount %d: got %v, want good: %v", amount, err, good)
		}
	}
}
