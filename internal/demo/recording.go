package demo

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/internal/mesh"
)

// repeats is how often Eve repeats what she has.
const repeats = 10

// nothingToRead is what Eve gets out of a recording.
var nothingToRead = outcome{code: "nothing to read"}

// reads looks for what a request says in what was recorded of its connection.
func reads(recording *tap, request *ledgerv1.TransferRequest) outcome {
	secrets := map[string]string{"the paying account": request.GetFromAccount(), "the receiving one": request.GetToAccount(),
		"the note": request.GetNote(), "the request_id": request.GetRequestId()}
	body, err := proto.Marshal(request)
	if err != nil {
		return outcome{code: "no request", text: err.Error()}
	}
	sent, received := recording.conversation()
	if len(sent) == 0 {
		return outcome{code: "nothing was recorded"}
	}
	for what, secret := range secrets {
		if secret == "" || !bytes.Contains(body, []byte(secret)) {
			return outcome{code: "a search that finds nothing", text: what + " is not even found in the request"}
		}
		if bytes.Contains(sent, []byte(secret)) || bytes.Contains(received, []byte(secret)) {
			return outcome{code: "plaintext", text: what + " is there to read"}
		}
	}
	o := nothingToRead
	o.text = fmt.Sprintf("%d bytes of alice's and %d of the ledger's, and neither an account nor the note nor the request_id among them", len(sent), len(received))
	for line := range strings.Lines(hex.Dump(beginning(sent))) {
		o.shown = append(o.shown, strings.TrimSpace(strings.TrimPrefix(line, "0000"))) // fits 80 columns
	}
	return o
}

// beginning returns the first bytes of the last TLS record that is long enough to be a request, for four lines of a dump.
func beginning(sent []byte) []byte {
	var last []byte
	for rest := sent; len(rest) >= 5; { // RFC 8446 §5.1: type, version in two bytes, length in two
		n := 5 + int(rest[3])<<8 + int(rest[4])
		if n > len(rest) {
			break
		}
		if n > chatter {
			last = rest[:n]
		}
		rest = rest[n:]
	}
	return last[:min(len(last), 64)]
}

// eveRepeats shows what a recorded connection is worth, at the ledger and at another service.
func (t *tour) eveRepeats(ctx context.Context, l *line) error {
	sent, _ := l.connections()[0].conversation()
	orders, _ := t.file.Service("orders")
	for _, a := range []struct {
		what    string
		service mesh.Service
		why     string
	}{
		{fmt.Sprintf("Eve sends all that she recorded once more, over %d new connections", repeats), t.ledger,
			"Each connection has keys of its own, made anew by both sides: to the ledger the recording is noise."},
		{"and as often to orders", orders,
			"The same noise."},
	} {
		_, port, _ := net.SplitHostPort(a.service.Address)
		if _, err := t.play(ctx, attempt{
			what:    a.what,
			command: fmt.Sprintf("for i in $(seq %d); do nc -w 2 localhost %s < $tmp/sent.bin | wc -c; done", repeats, port),
			try:     t.moves(0, t.plays(a.service, sent)),
			want:    outcome{code: noConnection},
			why:     a.why,
		}); err != nil {
			return err
		}
	}
	return nil
}

// plays sends what was recorded of a client to a service, several times. The outcome is that of the last time if all ended
// like that.
func (t *tour) plays(service mesh.Service, sent []byte) func(context.Context) outcome {
	return func(ctx context.Context) (o outcome) {
		for range repeats {
			began := time.Now()
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", service.Address)
			if err != nil {
				return outcome{code: "unreachable", text: err.Error()}
			}
			stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
			_, err = conn.Write(sent)
			// The server may hang up while Eve still talks, and it sends no more than its own greeting and an alert.
			answer, _ := io.ReadAll(conn)
			stop()
			_ = conn.Close()
			o = t.noted(ctx, service, conn.LocalAddr().String(), began, fmt.Sprintf("%d times: %s hangs up in the middle of the handshake", repeats, service.Name))
			if o.reason == "" {
				return outcome{code: "no record of a refusal", text: fmt.Sprintf("after %d bytes, %v", len(answer), err), noted: o.noted}
			}
		}
		o.reason = "" // "other", which says less than the record itself
		return o
	}
}
