package up

import (
	"crypto/x509"
	"testing"
	"time"
)

func TestWhenTheAgentIsGivenACertificate(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 22, 18, 0, 0, 0, time.UTC)
	leaf := &x509.Certificate{NotBefore: start, NotAfter: start.Add(24 * time.Hour)}
	for name, c := range map[string]struct {
		now  time.Time
		want bool
	}{
		"an hour old: it renews by itself":             {start.Add(time.Hour), false},
		"past half of life: it still may":              {start.Add(15 * time.Hour), false},
		"an eighth of life is left":                    {start.Add(22 * time.Hour), true},
		"expired":                                      {start.Add(48 * time.Hour), true},
		"it starts in the future: the clock was ahead": {start.Add(-47 * time.Hour), true},
	} {
		if got := leftAlone(leaf, c.now); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
