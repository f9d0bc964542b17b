package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/rootrotation"
	"example.com/rolecall/pki"
)

// rotationStatus is how far it is, for programs.
type rotationStatus struct {
	TrustDomain string                    `json:"trust_domain"`
	Phase       string                    `json:"phase"` // "", PREPARED or ACTIVATED
	OldSHA256   string                    `json:"old_sha256,omitempty"`
	NewSHA256   string                    `json:"new_sha256,omitempty"`
	Timeline    []rootrotation.Event      `json:"timeline"`
	Obstacles   []rootrotation.Obstacle   `json:"obstacles"` // to the next step; empty too when nobody was asked
	Asked       bool                      `json:"asked"`
	Skipped     []pki.Skip                `json:"skipped"`
	examined    *rootrotation.Examination // nil: nobody was asked
	unasked     error                     // why
}

func (a *app) rotateStatusCommand() *cobra.Command {
	var flags stepFlags
	c := &cobra.Command{
		Use:   "status",
		Short: "Show how far the replacement of the root is, and who is missing",
		Long: `Shows which steps were taken, when the next ones can be, and, where the mesh can be asked, who or what stands in the way of
the old root's retirement. Changes nothing.`,
		Example: `  rolecall pki root rotate status
  rolecall pki root rotate status -o json | jq '.obstacles[].spiffe_id'`,
		Args: cobra.NoArgs,
	}
	flags.caFlags.add(c)
	flags.askFlags.add(c)
	output := outputFlag(c, "table", "json")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := flags.askFlags.check(); err != nil {
			return err
		}
		issuers, _, err := flags.open()
		if err != nil {
			return err
		}
		s, err := a.rotationStatus(c.Context(), &flags, issuers)
		if err != nil {
			return err
		}
		if output.value == "json" {
			return a.out.JSON(s)
		}
		a.writeRotation(&flags, s)
		return nil
	}
	return c
}

func (a *app) rotationStatus(ctx context.Context, flags *stepFlags, issuers *pki.Issuers) (*rotationStatus, error) {
	r := issuers.Rotation()
	s := &rotationStatus{TrustDomain: issuers.TrustDomain().Name(), Phase: string(r.Phase), Obstacles: []rootrotation.Obstacle{}, Skipped: r.Skipped}
	if s.Skipped == nil {
		s.Skipped = []pki.Skip{}
	}
	var err error
	if s.Timeline, err = rootrotation.Timeline(issuers, time.Now()); err != nil {
		return nil, err
	}
	if r.Phase == pki.NoRotation {
		return s, nil
	}
	s.OldSHA256, s.NewSHA256 = fingerprint(r.Old), fingerprint(r.New)
	ask := rootrotation.Examine
	if r.Phase == pki.RotationPrepared {
		ask = rootrotation.ReadyToActivate
	}
	s.examined, s.unasked = a.examine(ctx, flags, issuers, ask)
	if s.unasked == nil {
		s.Asked = true
		s.Obstacles = append(s.Obstacles, s.examined.Obstacles...)
	}
	return s, nil
}

func (a *app) writeRotation(flags *stepFlags, s *rotationStatus) {
	if s.Phase == "" {
		a.out.Printf("the root of %s is not being replaced; if it were, from now on:\n\n", s.TrustDomain)
	} else {
		a.out.Printf("the root of %s is being replaced: %s\n  old root  SHA-256 %s\n  new root  SHA-256 %s\n\n", s.TrustDomain, a.out.Bold(s.Phase), s.OldSHA256, s.NewSHA256)
	}
	a.writeTimeline(s.Timeline, time.Now())
	for _, skip := range s.Skipped {
		a.out.Printf("\n%s %s is left out since %s, by %s: %s\n", a.out.Yellow("!"), cli.Clean(skip.ID), skip.At.Local().Format(time.DateTime), cli.Clean(skip.By), cli.Clean(skip.Reason))
	}
	a.out.Println()
	switch {
	case s.Phase == "":
		a.out.Printf("Begin with: %s\n", rotateWords(&flags.caFlags, "prepare"))
	case s.unasked != nil:
		a.out.Printf("%s who has heard of the new root is not known: %s\n", a.out.Yellow("!"), cli.Clean(s.unasked.Error()))
	case len(s.Obstacles) == 0 && s.Phase == string(pki.RotationPrepared):
		a.out.Printf("%s everybody has the new root; next: %s\n", a.out.Green("✓"), rotateWords(&flags.caFlags, "activate"))
	case len(s.Obstacles) == 0:
		a.out.Printf("%s nobody is missing; next: %s\n", a.out.Green("✓"), rotateWords(&flags.caFlags, "retire"))
	default:
		a.out.Printf("%s\n", a.out.Bold("Missing:"))
		for _, o := range s.Obstacles {
			a.out.Printf("  %s\n      %s %s\n", cli.Clean(o.String()), a.out.Dim("→"), cli.Clean(o.Do))
		}
	}
}
