package proof_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	pb "google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/interceptors/proof"
	"example.com/rolecall/rolecalltest"
)

// crooked is a bank's feature whose receipts are not what they should be.
type crooked struct {
	clocked
	receipt func(honest string) string
}

type crookedRunning struct {
	feature.Proofs
	receipt func(string) string
}

func (c *crooked) Start(env feature.Env) (feature.Running, error) {
	running, err := c.clocked.Start(env)
	if err != nil {
		return nil, err
	}
	return &crookedRunning{running.(feature.Proofs), c.receipt}, nil
}

func (c *crookedRunning) Receipt(p *feature.Proof, response []byte) (string, error) {
	honest, err := c.Proofs.Receipt(p, response)
	return c.receipt(honest), err
}

// TestReceiptsSwappedReplayedAndStripped has a server that may call itself the bank answer with other receipts.
func TestReceiptsSwappedReplayedAndStripped(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	first := ""
	evil := rolecalltest.NewCA(t, "mesh.local")
	redo := func(change func(map[string]any), source *rolecalltest.Source) func(string) string {
		return func(honest string) string {
			d := readJWS(t, honest)
			change(d.claims)
			svid, _ := source.GetX509SVID()
			a := &attacker{mesh: m, source: source}
			d.key = a.key()
			d.header["kid"] = kidOf(t, svid.Certificates[0].PublicKey)
			return d.sign(t)
		}
	}
	same := func(map[string]any) {}
	to := func(name string, value any) func(map[string]any) {
		return func(claims map[string]any) { claims[name] = value }
	}
	for _, c := range []struct {
		name    string
		detail  string // in the error; empty: accepted
		receipt func(honest string) string
	}{
		{"honest", "", func(honest string) string { first = honest; return honest }},
		{"swapped for another call's", "another request", func(string) string { return first }},
		{"swapped for one of another response", "not the one that was signed", redo(to("bth", hash([]byte("x"))), m.source)},
		{"swapped for one to another signer", "for \"spiffe://mesh.local/service/second\"", redo(to("aud", m.ca.ID(second).String()), m.source)},
		{"swapped for one of another server", "it is of", redo(to("iss", m.ca.ID(otherBank).String()), m.source)},
		{"swapped for one about another method", "about the method", redo(to("mth", gift), m.source)},
		{"replayed with our nonce from before", "another time", redo(to("iat", time.Now().Add(-time.Hour).Unix()), m.source)},
		{"from the far future", "another time", redo(to("iat", time.Now().Add(time.Hour).Unix()), m.source)},
		{"with a claim more", "7 claims", redo(to("sub", "x"), m.source)},
		{"stripped", "not three parts", func(string) string { return "" }},
		{"without a signature", "signature is not valid", func(honest string) string { return honest[:strings.LastIndexByte(honest, '.')+1] }},
		{"signed by another workload", "not known", redo(same, m.ca.Source(second))},
		{"signed with a certificate of another root", "not known", redo(same, evil.Source(bankPath))},
		{"signed again by the same server", "", redo(same, m.source)},
		{"a proof in place of a receipt", "rolecall-proof+jwt", func(string) string { return (&attacker{mesh: m, source: m.source}).prove(pay, dave) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := proof.NewFast(proof.Config{Target: m.keysAddr, Server: m.ca.ID(keysPath)})
			long := func() time.Time { return time.Now().Add(-10 * time.Second) } // so that it has been up for long
			now := long
			guard := m.newGuard(m.source, interceptors.BindingsFile(m.bindings), quiet(), interceptors.With(&crooked{clocked{f, func() time.Time { return now() }}, c.receipt}))
			now = time.Now
			server := guard.NewServer()
			b := &bank{t: t}
			b.register(server)
			addr, stop := serve(t, server, listen(t))
			defer stop()
			w := m.workload(payer)
			conn, err := w.guard.NewClient(addr, m.ca.ID(bankPath))
			must(t, err)
			defer func() { _ = conn.Close() }()
			answer := paid(t)
			err = conn.Invoke(timeout(t), pay, payment(t, "dave", 1), answer)
			if n := get(answer, "paid").Int(); (n == 1) != (c.detail == "") {
				t.Errorf("the caller was handed a response that says paid: %d", n)
			}
			if c.detail == "" {
				if err != nil {
					t.Errorf("got %v", err)
				}
				return
			}
			if codeOf(err) != codes.DataLoss || !strings.Contains(err.Error(), c.detail) || !strings.Contains(err.Error(), "may have taken effect") {
				t.Errorf("got %v, want DATA_LOSS with %q", err, c.detail)
			}
			if n := b.reached.Load(); n != 1 {
				t.Errorf("the handler was reached %d times, want once: such an answer is no reason to try again", n)
			}
		})
	}
}

// readJWS takes a token apart.
func readJWS(t testing.TB, text string) *draft {
	t.Helper()
	d := &draft{}
	for i, to := range []*map[string]any{&d.header, &d.claims} {
		part, err := base64.RawURLEncoding.DecodeString(strings.Split(text, ".")[i])
		must(t, err)
		must(t, json.Unmarshal(part, to))
	}
	return d
}

func TestARelayedReceiptIsVerifiedByTheSigner(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	signer, via := m.workload(payer).announced(), m.workload(relay)
	must(t, m.feature.Announced(timeout(t)))
	requests, responses := [2]*signedRequest{}, [2]*signedResponse{}
	for i := range requests {
		var err error
		requests[i] = signer.signed(pay, int64(i+1))
		responses[i], err = proof.Forward(timeout(t), via.conn, requests[i])
		must(t, err)
	}
	verify := func(request *signedRequest, response *signedResponse) error {
		return signer.feature.VerifyReceipt(timeout(t), request, response)
	}
	for i := range requests {
		if err := verify(requests[i], responses[i]); err != nil {
			t.Errorf("receipt %d: %v", i, err)
		}
	}
	changed := func(change func(*signedResponse)) *signedResponse {
		r := pb.CloneOf(responses[0])
		change(r)
		return r
	}
	for name, response := range map[string]*signedResponse{
		"swapped":                      responses[1],
		"stripped":                     changed(func(r *signedResponse) { r.Receipt = "" }),
		"with the response of another": changed(func(r *signedResponse) { r.Response = responses[1].GetResponse() }),
		"with a byte changed":          changed(func(r *signedResponse) { r.Response[len(r.Response)-1] ^= 1 }),
		"nothing":                      nil,
	} {
		if err := verify(requests[0], response); err == nil {
			t.Errorf("%s: the receipt was accepted", name)
		}
	}
	if err := verify(nil, responses[0]); err == nil {
		t.Error("a receipt for no request was accepted")
	}
	// With the key server down, and the bank's certificate unknown, it cannot be told.
	m.stopKeys()
	late := m.workload(second)
	late.feature.Running()
	if err := late.feature.VerifyReceipt(timeout(t), requests[0], responses[0]); err == nil {
		t.Error("a receipt was accepted whose key nobody knows")
	}
	if err := verify(requests[0], responses[0]); err != nil {
		t.Errorf("a key that is remembered: %v", err)
	}
}

// A server that asks for no proof gives no receipt; a client that signs all the same will not take that.
func TestAnAnswerWithoutAReceiptIsAnError(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	w := m.workload(payer)
	_, err := w.pay(proof.Always(timeout(t)), look)
	if codeOf(err) != codes.DataLoss {
		t.Errorf("got %v, want DATA_LOSS", err)
	}
	// Where the server's own receipt is there it is good, whatever else comes.
	m.bank.handling(func(ctx context.Context, _ *dynamicpb.Message) error {
		return grpc.SetTrailer(ctx, metadata.Pairs("x-more", "1"))
	})
	if _, err := w.pay(proof.Always(timeout(t)), pay); err != nil {
		t.Error(err)
	}
	m.bank.handling(func(ctx context.Context, _ *dynamicpb.Message) error {
		return grpc.SetTrailer(ctx, metadata.Pairs("rolecall-receipt", "forged by the handler"))
	})
	if _, err := w.pay(timeout(t), pay); codeOf(err) != codes.DataLoss {
		t.Errorf("two receipts: got %v, want DATA_LOSS", err)
	}
}
