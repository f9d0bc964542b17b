package demo

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	rolecallv1 "example.com/rolecall/gen/rolecall/v1"
	"example.com/rolecall/interceptors/proof"
	"example.com/rolecall/internal/cli"
)

// stolenMessage shows what a request of alice's is worth to somebody who found it, with its proof, before TLS or behind it.
func (t *tour) stolenMessage(ctx context.Context) error {
	t.scene("Eve finds a message: a transfer of alice's with its proof, in a log that says too much")
	alice := t.people["alice"]
	pay := t.payment("a compass")
	found, err := t.sign(alice, pay)
	if err != nil {
		return err
	}
	if err := t.must(ctx, attempt{
		what:    "alice moves 12.50 euro, and her program logs what it sends, metadata and all",
		command: t.call("alice", transfer, anew(pay), "--sign") + " > $tmp/message.json\n" + t.sendFunction() + "\nsend alice",
		try:     t.moves(1, forwards(alice.conns["ledger"], found)),
		want:    ok,
		why:     t.requires(transfer) + ", and a proof: a signature over the request, the method and the service, with a number and a time.",
	}); err != nil {
		return err
	}
	if err := t.eveSends(ctx, found); err != nil {
		return err
	}
	return t.eveSigns(ctx)
}

// sendFunction defines a function of the shell that sends a signed message as it is, with the certificate of an operator. It
// takes no gRPC client: one of those would encode the request anew.
func (t *tour) sendFunction() string {
	operators := cli.Quote(cli.Relative(filepath.Dir(t.file.Operators[0].Cert)))
	return `field() { sed -n 's/.*"'$1'": *"\([^"]*\)".*/\1/p' $tmp/message.json; }; body() { field request | base64 -d; }` + "\n" +
		`send() { { printf %010x $(body | wc -c) | xxd -r -p; body; } | curl -s --http2 --cacert ` + cli.Quote(cli.Relative(t.file.Bundle)) +
		` --cert ` + operators + `/$1.crt --key ` + operators + `/$1.key -H 'content-type: application/grpc' -H 'te: trailers'` +
		` -H "rolecall-proof: $(field proof)" --data-binary @- -o /dev/null -D - https://` + t.target("ledger") + transfer + ` | grep -aE '^grpc-(status|message):'; }`
}

// eveSends shows what Eve can do with a message that was sent before.
func (t *tour) eveSends(ctx context.Context, found *rolecallv1.SignedRequest) error {
	alice, bob := t.people["alice"], t.people["bob"]
	// A connection of her own, on alice's machine, with alice's certificate and key.
	conn, err := t.client(alice, "ledger", t.ledger.Address)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // its calls have been shown
	more, err := altered(found)
	if err != nil {
		return err
	}
	for _, a := range []attempt{
		{
			what:    fmt.Sprintf("Eve sends it again, %d times, over a new connection on which she shows alice's own certificate", repeats),
			command: fmt.Sprintf(`for i in $(seq %d); do send alice; done`, repeats),
			try:     t.moves(0, repeated(forwards(conn, found))),
			want:    proofReplayed,
			why:     "The ledger remembers the number of a proof for as long as the proof is good.",
		},
		{
			what:    "she puts a nought behind the amount",
			command: `(body() { field request | base64 -d | perl -pe 's/\xe2\x09/\xd4\x61/'; }; send alice)   # 1250 becomes 12500, as protobuf writes them`,
			try:     t.moves(0, forwards(conn, more)),
			want:    proofInvalid,
			why:     "The signature is over the bytes of the request.",
		},
		{
			what:    "she shows bob's certificate with it",
			command: `as bob -H "rolecall-proof: $(field proof)" ` + cli.Quote(t.target("ledger"), transfer[1:]) + "   # refused before the request is read",
			try:     t.moves(0, forwards(bob.conns["ledger"], found)),
			want:    roleRequired,
			why:     "Passing a request on does not lend its signer's roles: " + t.holds(bob, "ledger") + ".",
		},
	} {
		if _, err := t.play(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

// eveSigns shows messages that were never good.
func (t *tour) eveSigns(ctx context.Context) error {
	alice := t.people["alice"]
	orders, err := t.serviceID("orders")
	if err != nil {
		return err
	}
	elsewhere, err := alice.proofs.Signer().Sign(orders, t.payment("a kite"), transfer)
	if err != nil {
		return err
	}
	forged, err := t.forgeProof(alice.id)
	if err != nil {
		return err
	}
	unguarded, err := t.unguarded(alice, t.ledger)
	if err != nil {
		return err
	}
	defer unguarded.Close() //nolint:errcheck // its call has been shown
	plain := t.payment("")
	address, _ := t.file.Service("orders")
	for _, a := range []attempt{
		{
			what:    "she finds one that alice signed for another service",
			command: t.call("alice", transfer, &ledgerv1.TransferRequest{}, "--sign", "--server", address.Address+","+orders.String()) + " > $tmp/message.json; send alice",
			try:     t.moves(0, forwards(alice.conns["ledger"], elsewhere)),
			want:    proofInvalid,
			why:     "A proof names the service, by its SPIFFE ID, and the method. At another one it says nothing.",
		},
		{
			what:    "she signs one with alice's name and a key of her own",
			command: cli.Quote(program(), "inspect") + " $tmp/message.json   # the key is alice's, and hers would be another",
			try:     t.moves(0, forwards(alice.conns["ledger"], forged)),
			want:    signerUnknown,
			why:     "alice has never shown that key to the key server, in a certificate of hers. Nobody can do it for her.",
		},
		{
			what:    "she leaves the proof out",
			command: t.command("alice", transfer, plain),
			try:     t.moves(0, calls(ledgerv1.NewLedgerServiceClient(unguarded).Transfer, plain)),
			want:    proofRequired,
			why:     "So grpcurl alone cannot move money. This does: " + t.rolecall("call", "ledger/Transfer") + " -d ...",
		},
	} {
		if _, err := t.play(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

// forgeProof makes a payment that somebody has not signed.
func (t *tour) forgeProof(id spiffeid.ID) (*rolecallv1.SignedRequest, error) {
	ledger, err := t.serviceID("ledger")
	if err != nil {
		return nil, err
	}
	forged, err := forge(id)
	if err != nil {
		return nil, err
	}
	return proof.NewSigner(static(forged)).Sign(ledger, t.payment("a crown"), transfer)
}
