package demo

import (
	"context"

	tokensv1 "example.com/rolecall/gen/tokens/v1"
	"example.com/rolecall/internal/cli"
)

// refreshed shows how a session goes on.
func (t *tour) refreshed(ctx context.Context) error {
	t.scene("Refreshed: each refresh token is good for one use")
	alice, bob := t.people["alice"], t.people["bob"]
	old := t.dave.refresh
	if err := t.must(ctx, attempt{
		what:    "dave's program gets the next pair, without asking him",
		command: t.copyCommand() + "; " + t.refreshCommand("bob"),
		try:     refreshAs(bob, old, &t.dave),
		want:    ok,
		why:     "The old refresh token is used up. The roles are those that dave holds now, as far as he asked for them.",
	}); err != nil {
		return err
	}
	for _, a := range []attempt{
		{
			what:    "the answer was lost, the program asks once more",
			command: t.refreshCommand("bob"),
			try: func(ctx context.Context) outcome {
				var again *loggedIn
				got := refreshAs(bob, old, &again)(ctx)
				if got.code == ok.code && again.refresh != t.dave.refresh {
					return outcome{code: "another refresh token", text: "than the first time"}
				}
				return got
			},
			want: ok,
			why:  "For ten seconds a used token gives the same successor once more, never a second one.",
		},
		{
			what:    "Eve, who has alice's machine, presents dave's refresh token there",
			command: t.refreshCommand("alice"),
			try:     refreshAs(alice, t.dave.refresh, new(*loggedIn)),
			want:    sessionEnded,
			why:     "It was given to bob's program and is good for that one alone (RFC 6749 section 6). dave's session goes on.",
		},
	} {
		if _, err := t.play(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

// loggedOut ends dave's session.
func (t *tour) loggedOut(ctx context.Context) error {
	t.scene("Logged out: no service waits for the token to expire")
	bob := t.people["bob"]
	var heard outcome
	if err := t.must(ctx, attempt{
		what:    "dave logs out",
		command: t.rolecall("logout"),
		try: func(ctx context.Context) outcome {
			response, err := bob.tokens.Revoke(ctx, &tokensv1.RevokeRequest{RefreshToken: t.dave.refresh})
			heard = t.endsEverywhere(bob, t.dave.access)(ctx) // measured at once: the tour may stay a while at this attempt
			return answered(response, err)
		},
		want: ok,
		why:  "The tokens service tells every service, on a stream that each of them follows.",
	}); err != nil {
		return err
	}
	for _, a := range []attempt{
		{
			what:    "his access token, which has minutes to live",
			command: t.commandFor("token", "bob", listOrders, nil),
			try:     func(context.Context) outcome { return heard },
			want:    userTokenRevoked,
			why:     "Everywhere, within a second.",
		},
		{
			what:    "and his refresh token",
			command: t.refreshCommand("bob"),
			try:     refreshAs(bob, t.dave.refresh, new(*loggedIn)),
			want:    sessionEnded,
			why:     "There is no session any more.",
		},
	} {
		if _, err := t.play(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

// copyCommand puts the refresh token of the session that is there into a variable of the shell.
func (t *tour) copyCommand() string {
	return `refresh=$(sed -n 's/.*"refresh_token": "\(.*\)".*/\1/p' ` + cli.Quote(cli.Relative(t.dir.Session())) + ")"
}

// refreshCommand shows a refresh without the token itself.
func (t *tour) refreshCommand(who string) string {
	return "as " + who + ` -d "{\"refresh_token\": \"$refresh\"}" ` + t.target("tokens") + " " + refresh[1:]
}
