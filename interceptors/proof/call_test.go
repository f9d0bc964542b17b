package proof_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	pb "google.golang.org/protobuf/proto"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/internal/wire"
	"example.com/rolecall/interceptors/proof"
)

func TestASignedCallIsAnsweredWithAReceipt(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	w := m.workload(payer)
	for i := range 3 {
		total, err := w.pay(timeout(t), pay)
		if err != nil || total != int64(i+1) {
			t.Errorf("call %d: %d, %v", i, total, err)
		}
	}
	for name, ctx := range map[string]context.Context{
		"narrowed":            interceptors.Narrow(timeout(t), "bank.payer"),
		"narrowed twice":      interceptors.Narrow(interceptors.Narrow(timeout(t), "bank.admin"), "bank.payer"),
		"for a user":          interceptors.AsUser(timeout(t), "a.user.token"),
		"with metadata":       metadata.AppendToOutgoingContext(timeout(t), "x-note", "a", "x-note", "b", "x-bytes-bin", "\x00\xff,"),
		"with an old proof":   metadata.AppendToOutgoingContext(timeout(t), "rolecall-proof", "x"),
		"with trace context":  metadata.AppendToOutgoingContext(timeout(t), "traceparent", "00-1-2-00"),
		"signed on request":   proof.Always(timeout(t)),
		"with nothing at all": timeout(t),
	} {
		if _, err := w.pay(ctx, pay); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := w.pay(timeout(t), look); err != nil {
		t.Errorf("a method without proof: %v", err)
	}
	_, err := w.pay(interceptors.Narrow(timeout(t)), pay)
	refused(t, err, codes.PermissionDenied, "ROLE_REQUIRED")
}

func TestACallWithoutAProofIsRefused(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	conn := m.bare(m.ca.Source(payer))
	err := conn.Invoke(timeout(t), pay, payment(t, "dave", 1), paid(t))
	refused(t, err, codes.Unauthenticated, "PROOF_REQUIRED")
}

func TestARequestIsNotDecodedBeforeItsProofIsVerified(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	a := m.attacker(payer)
	malformed := []byte{0xff, 0xff, 0xff}
	for _, c := range []struct {
		name   string
		proof  []string
		reason string
	}{
		{"without a proof", nil, "PROOF_REQUIRED"},
		{"with a proof of other bytes", []string{"rolecall-proof", a.prove(pay, dave)}, "PROOF_INVALID"},
	} {
		_, err := send(timeout(t), a.conn, pay, malformed, c.proof...)
		if reason := infoOf(err).GetReason(); reason != c.reason {
			t.Errorf("bytes that are no message, %s: got %v, want %s", c.name, err, c.reason)
		}
	}
	if _, err := send(timeout(t), a.conn, pay, malformed, "rolecall-proof", a.prove(pay, malformed)); codeOf(err) != codes.Internal || m.bank.reached.Load() != 0 {
		t.Errorf("bytes that are no message, signed: got %v, want INTERNAL and no handler", err)
	}
}

// TestAClientWithANewerSchemaIsVerified sends a field that the server does not know.
func TestAClientWithANewerSchemaIsVerified(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	w := m.workload(payer)
	newer := compile(t, "newer.proto", newerProto)
	request := set(set(set(newMessage(t, newer, "PayRequest"), "to", "dave"), "amount", int64(1)), "memo", "rent")
	if err := w.conn.Invoke(timeout(t), pay, request, paid(t)); err != nil {
		t.Errorf("a field that the server does not know: %v", err)
	}
	if err := w.conn.Invoke(timeout(t), pay, request, paid(t), grpc.UseCompressor(gzip.Name)); err != nil {
		t.Errorf("the same with gzip: %v", err)
	}
	// Fields in another order than anybody would write them are what was signed, too.
	a := m.attacker(payer)
	odd := []byte{0x10, 0x01, 0x0a, 0x04, 'd', 'a', 'v', 'e', 0x10, 0x02}
	if _, err := send(timeout(t), a.conn, pay, odd, "rolecall-proof", a.prove(pay, odd)); err != nil {
		t.Errorf("fields in another order: %v", err)
	}
	if n := m.bank.total.Load(); n != 4 {
		t.Errorf("%d was paid, want 4", n)
	}
}

func TestAChangedByteIsNotVerified(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	a := m.attacker(payer)
	newer := compile(t, "newer.proto", newerProto)
	body, err := pb.Marshal(set(set(newMessage(t, newer, "PayRequest"), "to", "dave"), "memo", "rent"))
	must(t, err)
	for i := range body {
		changed := append([]byte(nil), body...)
		changed[i] ^= 1
		_, err := send(timeout(t), a.conn, pay, changed, "rolecall-proof", a.prove(pay, body))
		if reason := infoOf(err).GetReason(); reason != "PROOF_INVALID" && codeOf(err) != codes.Internal { // or it does not parse
			t.Errorf("byte %d changed: got %v", i, err)
		}
	}
	if n := m.bank.reached.Load(); n != 0 {
		t.Errorf("a handler was reached %d times", n)
	}
}

func TestAServerStreamIsSignedByItsRequest(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	w := m.workload(payer)
	open := func() grpc.ClientStream {
		stream, err := w.conn.NewStream(timeout(t), &grpc.StreamDesc{ServerStreams: true}, watch)
		must(t, err)
		return stream
	}
	read := func(stream grpc.ClientStream) (n int, err error) {
		for ; ; n++ {
			if err := stream.RecvMsg(paid(t)); err != nil {
				if errors.Is(err, io.EOF) {
					err = nil
				}
				return n, err
			}
		}
	}
	stream := open()
	if err := stream.RecvMsg(paid(t)); codeOf(err) != codes.Internal {
		t.Errorf("read before the request was sent: %v", err)
	}
	must(t, stream.SendMsg(payment(t, "dave", 1)))
	must(t, stream.CloseSend())
	if n, err := read(stream); n != 3 || err != nil {
		t.Errorf("%d messages, %v, want 3", n, err)
	}
	if err := stream.SendMsg(payment(t, "dave", 1)); codeOf(err) != codes.Internal {
		t.Errorf("a second request: %v", err)
	}
	// After the certificate has changed, over the same connection.
	m.keys.refusing(errors.New("down"))
	w.source.Renew()
	w.conn = w.client()
	for range 2 {
		stream = open()
		must(t, stream.SendMsg(payment(t, "dave", 1)))
		must(t, stream.CloseSend())
		if n, err := read(stream); n != 3 || err != nil {
			t.Errorf("after a rotation: %d messages, %v, want 3", n, err)
		}
		w.source.Renew()
	}
	// By hand: without a proof, with one of another request, and twice.
	a := m.attacker(payer)
	request := bodyOf(t, "dave", 1)
	watching := func(text string) error {
		ctx := timeout(t)
		if text != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "rolecall-proof", text)
		}
		stream, err := a.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, watch, grpc.ForceCodecV2(wire.Codec()))
		must(t, err)
		_ = stream.SendMsg(&wire.Raw{Bytes: request})
		_, err = read(stream)
		return err
	}
	refused(t, watching(""), codes.Unauthenticated, "PROOF_REQUIRED")
	refused(t, watching(a.prove(watch, bodyOf(t, "dave", 2))), codes.Unauthenticated, "PROOF_INVALID")
	text := a.prove(watch, request)
	must(t, watching(text))
	refused(t, watching(text), codes.Unauthenticated, "PROOF_REPLAYED")
	if n := m.bank.reached.Load(); n != 4 {
		t.Errorf("the handler was reached %d times, want 4", n)
	}
	// A client stream cannot be signed.
	if _, err := w.conn.NewStream(timeout(t), &grpc.StreamDesc{ClientStreams: true}, watch); codeOf(err) != codes.Internal {
		t.Errorf("a stream of requests: %v", err)
	}
}

func TestTooMuchToSignIsAnErrorOfTheCaller(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	w := m.workload(payer)
	md := metadata.MD{}
	for i := range 200 {
		md.Set("x-name-"+strings.Repeat("n", 10)+nonceOf(i)[18:]+string(rune('a'+i%26))+strings.Repeat("a", i%7), "x")
	}
	_, err := w.pay(metadata.NewOutgoingContext(timeout(t), md), pay)
	if codeOf(err) != codes.Internal || !strings.Contains(err.Error(), "metadata") {
		t.Errorf("got %v, want INTERNAL about metadata", err)
	}
	if err := w.conn.Invoke(timeout(t), pay, "text", paid(t)); codeOf(err) != codes.Internal {
		t.Errorf("what is no message: %v", err)
	}
}
