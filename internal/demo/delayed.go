package demo

import (
	"context"
	"time"

	"example.com/rolecall/interceptors/proof"
	"example.com/rolecall/internal/cli"
)

const (
	// hasty is how long proofs are good in the scene in which they get too old.
	hasty = time.Second
	// overdue is how long after its making the ledger finds such a proof too old, on the same machine: its life, what
	// servers add for clocks that differ, and a second for the rounding.
	overdue = hasty + proof.DefaultLeeway + time.Second
)

// eveDelays shows a transfer that arrives late.
func (t *tour) eveDelays(ctx context.Context) error {
	alice := t.people["alice"]
	p, err := t.person(alice.name, alice.id, alice.source, proof.New(proof.Config{Life: hasty}))
	if err != nil {
		return err
	}
	defer p.close() //nolint:errcheck // its calls have been shown
	l, err := t.tapped(ctx, p)
	if err != nil {
		return err
	}
	defer l.close()
	if err := t.ready(ctx, l); err != nil {
		return err
	}
	pay := t.payment("a telescope")
	_, err = t.play(ctx, attempt{
		what:    "Eve holds a transfer back until it is too old",
		command: payCommand(pay) + "   # the relay of the tour waits, once it has the request",
		within:  overdue + patience,
		try: t.moves(1, func(ctx context.Context) outcome {
			l.requests.shut()
			defer l.requests.open()
			released := make(chan struct{})
			go func() {
				defer close(released)
				t.waits(ctx, "Eve waits", cli.Span(overdue)+": a proof for "+cli.Span(hasty)+", and "+cli.Span(proof.DefaultLeeway)+" for clocks that differ", overdue)
				l.requests.open()
			}()
			got := l.again(calls(l.ledger.Transfer, pay))(ctx)
			<-released
			return got
		}),
		want: proofExpired,
		why:  "What was meant now must not happen at a time that somebody else picks. The money moved once, with the second try.",
	})
	return err
}

// waits lets time pass, and shows that it does.
func (t *tour) waits(ctx context.Context, who, why string, d time.Duration) {
	progress := cli.NewProgress(t.out, who)
	defer progress.End()
	progress.Set(who, cli.Working, why)
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		progress.Set(who, cli.Done, "")
	case <-ctx.Done():
		progress.Set(who, cli.Failed, "")
	}
}
