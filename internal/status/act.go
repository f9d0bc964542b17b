package status

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/mesh"
	"example.com/rolecall/pki"
)

// Act is when somebody must do something for the issuers of an authority, and what.
type Act struct {
	// By is the last moment for it; zero: nobody ever need.
	By time.Time `json:"by,omitzero"`
	// Warn is from when on it is said with exit code 1: 48 hours or a quarter of an issuer's life before By.
	Warn    time.Time `json:"warn,omitzero"`
	Reason  string    `json:"reason,omitempty"`
	Command string    `json:"command,omitempty"`
	// Must tells that the moment of Warn has come.
	Must bool `json:"must_act"`
	// RootAtHand tells whether the root's key and its passphrase lie beside the authority, so that `rolecall up` makes issuers by itself.
	RootAtHand bool `json:"root_at_hand"`
	// ByHand tells that only a person can do it: no root is at hand, or the root itself is at issue.
	ByHand bool `json:"by_hand"`
}

// NewAct finds out for the authority in a folder.
func NewAct(issuers *pki.Issuers, authority string, now time.Time) Act {
	by := issuers.ActBy()
	a := Act{By: by.When, Warn: by.Warn, Reason: by.Reason, Command: by.Command, RootAtHand: rootAtHand(issuers, authority)}
	if a.By.Equal(a.Warn) && !a.By.IsZero() { // at once, by a clock that has gone on since now
		a.By, a.Warn = now, now
	}
	a.ByHand = !a.RootAtHand || strings.Contains(a.Command, "pki root rotate")
	a.Must = !a.By.IsZero() && !now.Before(a.Warn)
	return a
}

// rootAtHand tells whether the root that signs now lies beside the authority with its key and its passphrase, as in the
// folder of `rolecall up`, which then needs nobody.
func rootAtHand(issuers *pki.Issuers, authority string) bool {
	dir, err := mesh.Open(filepath.Dir(authority))
	if err != nil || filepath.Base(authority) != pki.AuthorityDir {
		return false
	}
	folder := dir.Root()
	if issuers.Rotation().Phase == pki.RotationActivated {
		folder = dir.RootNext()
	}
	for _, name := range []string{"root.key", "passphrase"} {
		if _, err := os.Stat(filepath.Join(folder, name)); err != nil {
			return false
		}
	}
	return true
}

// String says it in one line.
func (a Act) String(now time.Time) string {
	when := func() string {
		if left := a.By.Sub(now); left > 0 {
			return fmt.Sprintf("by %s (in %s)", a.By.Local().Format(time.DateTime), cli.Span(left))
		}
		return "now"
	}
	switch {
	case a.By.IsZero():
		return "nobody needs to act"
	case a.Must && !a.ByHand:
		return fmt.Sprintf("somebody must act %s: %s; the root is at hand, so see why 'rolecall up' has not done it: it runs no more, or its log says so", when(), a.Reason)
	case a.Must:
		return fmt.Sprintf("somebody must act %s: %s: %s", when(), a.Reason, a.Command)
	case !a.ByHand:
		return "nobody needs to act: the root is at hand, and 'rolecall up' has it sign the next issuer in time"
	}
	why := "no root is at hand, so "
	if a.RootAtHand {
		why = ""
	}
	return fmt.Sprintf("nobody needs to act now; %ssomebody must %s: %s: %s", why, when(), a.Reason, a.Command)
}
