package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/internal/cli"
)

// readerRole is the role that bob loses for a moment.
const readerRole = "ledger.reader"

// roleTakenAway takes bob's role away while a stream of his is open, and gives it back.
func (t *tour) roleTakenAway(ctx context.Context) (err error) {
	t.scene("Taken away: an open stream does not outlive the role")
	bob := t.people["bob"]
	roles, err := readRoles(t.file.Roles)
	if err != nil {
		return err
	}
	without, err := roles.without(bob.id, t.policy)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil) // ends the stream, whatever happens
	watch := &ledgerv1.WatchEntriesRequest{AccountId: t.shop}
	var stream grpc.ServerStreamingClient[ledgerv1.WatchEntriesResponse]
	if err := t.must(ctx, attempt{
		what:    "bob watches the account, and goes on watching",
		command: t.command("bob", watchEntries, watch),
		try: func(bounded context.Context) outcome {
			// The stream outlives the attempt: its context is that of the scene.
			stop := context.AfterFunc(bounded, func() { cancel(fmt.Errorf("no entry came within %s", patience)) })
			defer stop()
			var err error
			if stream, err = bob.ledger.WatchEntries(ctx, watch); err != nil {
				return answered(nil, err)
			}
			first, err := stream.Recv()
			return answered(first, err)
		},
		want: ok,
		why:  t.requires(watchEntries) + "; " + t.holds(bob, "ledger") + ". The stream stays open.",
	}); err != nil {
		return err
	}

	ended := make(chan error, 1)
	go func() {
		for {
			if _, err := stream.Recv(); err != nil {
				ended <- err
				return
			}
		}
	}()
	t.edits("somebody takes the role away", "bob out of "+readerRole)
	defer func() { err = errors.Join(err, roles.restore()) }()
	if err := roles.replace(without); err != nil {
		return err
	}
	if err := t.refusedWithin(ctx, bob, ended); err != nil {
		return err
	}
	t.edits("and gives it back", "as it was")
	if err := roles.restore(); err != nil {
		return err
	}
	return t.welcomeBack(ctx, bob)
}

// refusedWithin waits for the end of the stream, and makes one more call on the same connection.
func (t *tour) refusedWithin(ctx context.Context, p *person, ended <-chan error) error {
	edited := time.Now()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	t.out.Printf("  %s's stream\n", p.name)
	select {
	case err := <-ended:
		if ctx.Err() != nil {
			return fmt.Errorf("the tour was interrupted: %w", context.Cause(ctx))
		}
		t.judge(ctx, answered(nil, err), roleRequired, fmt.Sprintf("The ledger watches roles.yaml and ended the stream after %s.", since(edited)))
	case <-timer.C:
		t.judge(ctx, outcome{code: "still open", text: "after " + patience.String()}, roleRequired, "An open stream must end when its caller's role does.")
	case <-ctx.Done():
		return fmt.Errorf("the tour was interrupted: %w", context.Cause(ctx))
	}
	read := &ledgerv1.GetBalanceRequest{AccountId: t.shop}
	_, err := t.play(ctx, attempt{
		what:    p.name + "'s next call, on the connection that is still open",
		command: t.command(p.name, getBalance, read),
		try:     calls(p.ledger.GetBalance, read),
		want:    roleRequired,
		why:     "The certificate is as good as before. Who may do what stands in roles.yaml, not in it.",
	})
	return err
}

// welcomeBack waits until a call is allowed again.
func (t *tour) welcomeBack(ctx context.Context, p *person) error {
	read := &ledgerv1.GetBalanceRequest{AccountId: t.shop}
	restored := time.Now()
	a := attempt{
		what:    p.name + " reads again",
		command: t.command(p.name, getBalance, read),
		want:    ok,
		why:     "Nobody had to start anything again.",
	}
	a.try = func(ctx context.Context) outcome {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			got := calls(p.ledger.GetBalance, read)(ctx)
			if got.code == ok.code {
				got.text += " after " + since(restored)
				return got
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return got
			}
		}
	}
	_, err := t.play(ctx, a)
	return err
}

// edits shows what the tour does to roles.yaml as somebody would do it.
func (t *tour) edits(what, how string) {
	t.say("  ", nil, what)
	t.prompt("    $ ", "$EDITOR "+cli.Quote(cli.Relative(t.file.Roles))+"   # "+how)
	t.out.Println()
}

func since(t time.Time) string { return time.Since(t).Round(time.Millisecond).String() }
