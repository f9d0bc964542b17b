package demo

import (
	"context"
	"time"

	"example.com/rolecall/internal/cli"
)

// blocked is how long alice waits for an answer that Eve holds back.
const blocked = 2 * time.Second

// eveBetween shows Eve on the way between alice and the ledger.
func (t *tour) eveBetween(ctx context.Context) error {
	t.scene("Eve in between: all that alice and the ledger say goes through her hands")
	l, err := t.tapped(ctx, t.people["alice"])
	if err != nil {
		return err
	}
	defer l.close()
	for _, part := range []func(context.Context, *line) error{t.eveReads, t.eveChanges, t.eveBlocks, t.eveRepeats} {
		if err := part(ctx, l); err != nil {
			return err
		}
	}
	return t.eveDelays(ctx)
}

// eveReads shows a transfer, and what Eve sees of it.
func (t *tour) eveReads(ctx context.Context, l *line) error {
	pay := t.payment("rent for the lighthouse")
	if err := t.must(ctx, attempt{
		what: "alice moves 12.50 euro, and her connection goes through a relay of Eve's",
		command: "socat -r $tmp/sent.bin " + cli.Quote("TCP-LISTEN:"+tapPort+",bind=127.0.0.1,reuseaddr,fork", "TCP:"+t.ledger.Address) + " &\n" +
			t.payFunction() + "\n" + payCommand(pay),
		try:  t.moves(1, calls(l.ledger.Transfer, pay)),
		want: ok,
		why:  "Nobody notices: whoever owns a switch between the two can do this. The service is known by its SPIFFE ID, not by its address.",
	}); err != nil {
		return err
	}
	_, err := t.play(ctx, attempt{
		what:    "Eve reads what went by",
		command: "hexdump -C $tmp/sent.bin; grep -ac lighthouse $tmp/sent.bin",
		try:     func(context.Context) outcome { return reads(l.connections()[0], pay) },
		want:    nothingToRead,
		why:     "TLS 1.3 encrypts all that follows the greeting, even the certificates. The same search finds all of it in the request itself.",
	})
	return err
}

// eveChanges shows a changed request and a changed answer.
func (t *tour) eveChanges(ctx context.Context, l *line) error {
	for _, change := range []struct {
		what string
		way  *way
		why  string
	}{
		{"Eve changes one bit of alice's next transfer", &l.requests,
			"A TLS record that was changed is no record: the ledger hangs up before it has read a word. The money moved once."},
		{"and one of the ledger's answer to another", &l.answers,
			"This one had taken effect. The request_id says that it is the same transfer: the ledger gave the stored answer, the money moved once."},
	} {
		pay := t.payment("a boat")
		// Eve changes what goes over a connection that stands: a changed greeting would be told by another word.
		if err := t.ready(ctx, l); err != nil {
			return err
		}
		change.way.turnOver()
		if _, err := t.play(ctx, attempt{
			what:    change.what,
			command: payCommand(pay) + "   # the relay of the tour changes a bit, which socat cannot",
			try:     t.moves(1, l.again(calls(l.ledger.Transfer, pay))),
			want:    outcome{code: "UNAVAILABLE"},
			why:     change.why,
		}); err != nil {
			return err
		}
	}
	return nil
}

// eveBlocks shows an answer that does not arrive, and what alice does then.
func (t *tour) eveBlocks(ctx context.Context, l *line) error {
	pay := t.payment("a lantern")
	if err := t.ready(ctx, l); err != nil {
		return err
	}
	l.answers.shut()
	defer l.answers.open()
	if _, err := t.play(ctx, attempt{
		what:    "Eve lets the next one through and keeps the answer, without a word to anybody",
		command: "pkill -STOP socat; " + payCommand(pay, "--timeout", blocked.String()),
		try: t.moves(1, func(ctx context.Context) outcome {
			ctx, cancel := context.WithTimeout(ctx, blocked)
			defer cancel()
			return calls(l.ledger.Transfer, pay)(ctx)
		}),
		want: outcome{code: "DEADLINE_EXCEEDED"},
		why:  "alice's client has a deadline. Was it paid? She cannot know. It was, this time.",
	}); err != nil {
		return err
	}
	l.answers.open()
	_, err := t.play(ctx, attempt{
		what:    "alice sends the same request_id again, once Eve lets go",
		command: "pkill -CONT socat; " + payCommand(pay),
		try:     t.moves(0, calls(l.ledger.Transfer, pay)),
		want:    ok,
		why:     "A request_id takes effect once, so it is safe to ask until there is an answer. The money did not move again.",
	})
	return err
}
