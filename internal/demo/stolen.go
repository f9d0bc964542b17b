package demo

import (
	"context"
	"time"

	tokensv1 "example.com/rolecall/gen/tokens/v1"
)

const (
	// forgiven is how long a refresh token that was used gives the same successor again, unless the tokens service was
	// configured otherwise.
	forgiven = 10 * time.Second
	// grace bounds how long the tour waits for that to be over.
	grace = 3 * forgiven
)

// stolen shows the theft of a refresh token together with the certificate of the program that it was given to, and how it
// ends.
func (t *tour) stolen(ctx context.Context) error {
	t.scene("Stolen: a refresh token that is used twice gives both away")
	bob := t.people["bob"]
	dave := t.users["dave"]
	if err := t.must(ctx, attempt{
		what:    "dave logs in again",
		command: "token=$(" + t.rolecall("login", dave.Username, "--as", "bob") + ")",
		try:     t.loginAs(bob, dave, &t.dave),
		want:    ok,
		why:     "A new session. Eve copies his refresh token, and bob's key and certificate.",
	}); err != nil {
		return err
	}
	copied := t.dave.refresh
	if err := t.must(ctx, attempt{
		what:    "dave's program refreshes before she does",
		command: t.copyCommand() + "; " + t.refreshCommand("bob"),
		try:     refreshAs(bob, copied, &t.dave),
		want:    ok,
		why:     "What she has is used up now. Had she been first, it would be his turn to be noticed.",
	}); err != nil {
		return err
	}
	var heard outcome
	if _, err := t.play(ctx, attempt{
		what:    "Eve tries hers, again and again (this takes " + forgiven.String() + ": so long it passes for an answer that was lost)",
		command: t.refreshCommand("bob"),
		within:  grace,
		try: func(ctx context.Context) outcome {
			got := untilEnded(ctx, refreshAs(bob, copied, new(*loggedIn)))
			heard = t.endsEverywhere(bob, t.dave.access)(ctx)
			return got
		},
		want: sessionEnded,
		why:  "One token, used twice: there are two who hold it, and nobody can tell which is dave. All his sessions end (RFC 9700 section 4.14.2).",
	}); err != nil {
		return err
	}
	return t.thrownOut(ctx, bob, heard)
}

// thrownOut shows that the theft has ended what dave had, and that he begins anew.
func (t *tour) thrownOut(ctx context.Context, bob *person, heard outcome) error {
	dave := t.users["dave"]
	for _, a := range []attempt{
		{
			what:    "dave's access token",
			command: t.commandFor("token", "bob", listOrders, nil),
			try:     func(context.Context) outcome { return heard },
			want:    userTokenRevoked,
			why:     "So is whatever Eve got out of the ten seconds: his token generation was raised, and every older token is refused.",
		},
		{
			what:    "and his refresh token",
			command: t.refreshCommand("bob"),
			try:     refreshAs(bob, t.dave.refresh, new(*loggedIn)),
			want:    sessionEnded,
			why:     "dave is asked to log in, and the audit record of the tokens service says why.",
		},
		{
			what:    "dave logs in, with the password that Eve does not have",
			command: "token=$(" + t.rolecall("login", dave.Username, "--as", "bob") + ")",
			try:     t.loginAs(bob, dave, &t.dave),
			want:    ok,
			why:     "The next generation.",
		},
	} {
		if _, err := t.play(ctx, a); err != nil {
			return err
		}
	}
	// What nobody will use again is not left behind.
	_, _ = bob.tokens.Revoke(ctx, &tokensv1.RevokeRequest{RefreshToken: t.dave.refresh})
	return nil
}

// untilEnded tries every half a second until it no longer works.
func untilEnded(ctx context.Context, try func(context.Context) outcome) outcome {
	began := time.Now()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		got := try(ctx)
		if got.code != ok.code {
			got.text += " (after " + since(began) + ")"
			return got
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return got
		}
	}
}
