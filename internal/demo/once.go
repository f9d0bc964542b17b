package demo

import (
	"bytes"
	"context"
	"fmt"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
)

// times is how often alice sends one request.
const times = 3

// exactlyOnce shows requests that are repeated.
func (t *tour) exactlyOnce(ctx context.Context) error {
	t.scene("Exactly once: a request_id takes effect one time, however often it is sent")
	alice := t.people["alice"]
	pay := t.payment("a map")
	more := dearer(pay)
	for _, a := range []attempt{
		{
			what:    fmt.Sprintf("alice sends one transfer %d times, each with a fresh proof", times),
			command: fmt.Sprintf("for i in $(seq %d); do %s; done", times, t.call("alice", transfer, pay)),
			try:     t.moves(1, t.identically(alice, pay)),
			want:    ok,
			why:     "The money moved once. The ledger keeps the answer in the transaction of the transfer, and gives it again, byte for byte.",
		},
		{
			what:    "the same request_id, and ten times the amount",
			command: t.call("alice", transfer, more),
			try:     t.moves(0, calls(alice.ledger.Transfer, more)),
			want:    requestIDReused,
			why:     "Answering with the old transfer would be a lie, and making a new one would not be once.",
		},
	} {
		if _, err := t.play(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

// identically sends a transfer several times. The answers must be the same to the last byte.
func (t *tour) identically(p *person, pay *ledgerv1.TransferRequest) func(context.Context) outcome {
	return func(ctx context.Context) outcome {
		var first []byte
		var o outcome
		for i := range times {
			signed, err := t.sign(p, pay)
			if err != nil {
				return answered(nil, err)
			}
			response, got := forward(ctx, p.conns["ledger"], signed)
			if got.code != ok.code {
				return got
			}
			if i == 0 {
				first, o = response.GetResponse(), got
			} else if !bytes.Equal(response.GetResponse(), first) {
				return outcome{code: "another answer", text: "than the first time"}
			}
		}
		return o
	}
}
