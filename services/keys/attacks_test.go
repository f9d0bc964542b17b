package keys_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	keysv1 "example.com/rolecall/gen/keys/v1"
	"example.com/rolecall/internal/node"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/internal/store/storetest"
	"example.com/rolecall/rolecalltest"
	"example.com/rolecall/services/keys"
)

// Attack: to announce for another. The request has no field, and fields that it brings along say nothing.
func TestNobodyAnnouncesForAnother(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	victim := h.mesh.CA.Source("/service/orders")
	eve, _ := dial(t, h.mesh.CA.Source("/service/eve"), h.server)
	forged := &keysv1.AnnounceRequest{}
	var fields []byte
	for number, value := range [][]byte{[]byte("spiffe://mesh.local/service/orders"), []byte("kid"), leaf(t, victim).Raw} {
		fields = protowire.AppendTag(fields, protowire.Number(number+1), protowire.BytesType)
		fields = protowire.AppendBytes(fields, value)
	}
	forged.ProtoReflect().SetUnknown(fields)
	if _, err := eve.Announce(nodetest.Context(t), forged); err != nil {
		t.Fatalf("announce: %v", err)
	}
	reader := h.reader(t)
	if _, err := reader.GetKeys(nodetest.Context(t), &keysv1.GetKeysRequest{SpiffeId: "spiffe://mesh.local/service/orders"}); status.Code(err) != codes.NotFound {
		t.Errorf("keys of orders: %v, want %s", err, codes.NotFound)
	}
	if got := kids(t, reader, "spiffe://mesh.local/service/eve"); len(got) != 1 {
		t.Errorf("keys of eve: %v, want her own", got)
	}
}

// The certificate is that of the connection, not the one that the caller has meanwhile: a key that it cannot prove to hold
// on this connection is not taken on its word.
func TestTheCertificateOfTheVeryConnectionIsRecorded(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	source := h.mesh.CA.Source("/service/orders")
	client, _ := dial(t, source, h.server)
	announce := func() *keysv1.AnnounceResponse {
		t.Helper()
		answer, err := client.Announce(nodetest.Context(t), &keysv1.AnnounceRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	shown := leaf(t, source)
	before := announce()
	source.Renew(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(2 * time.Hour) })
	if after := announce(); after.GetKid() != before.GetKid() || !after.GetExpireTime().AsTime().Equal(shown.NotAfter) {
		t.Errorf("got %v after the rotation, want %v: the connection is the old one", after, before)
	}
	if kid := h.announce(t, source); kid == before.GetKid() {
		t.Errorf("over a fresh connection: %s, want another key", kid)
	}
}

func TestWhoIsOfAnotherTrustDomainNeitherAnnouncesNorReads(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	other := rolecalltest.NewCA(t, "other.example")
	own := h.mesh.CA.Source("/service/keys")
	own.Trust(h.mesh.CA, other)
	h.server = h.start(t, func(cfg *node.Config) { cfg.Source = own })
	foreign := other.Source("/service/orders")
	foreign.Trust(other, h.mesh.CA)
	client, _ := dial(t, foreign, h.server)
	ctx := nodetest.Context(t)
	_, announced := client.Announce(ctx, &keysv1.AnnounceRequest{})
	_, read := client.GetKeys(ctx, &keysv1.GetKeysRequest{SpiffeId: "spiffe://mesh.local/service/orders"})
	_, tokens := client.GetTokenKeys(ctx, &keysv1.GetTokenKeysRequest{})
	stream, err := client.WatchKeys(ctx, &keysv1.WatchKeysRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	for method, err := range map[string]error{"Announce": announced, "GetKeys": read, "GetTokenKeys": tokens, "WatchKeys": err} {
		if status.Code(err) != codes.PermissionDenied {
			t.Errorf("%s: got %v, want %s", method, err, codes.PermissionDenied)
		}
	}
}

// Attack: keys that cannot sign proofs, and chains that others would have to carry.
func TestWhatVerifiersCannotUseIsRefusedWithTheReason(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	issuer, issuerKey := h.mesh.CA.Intermediate()
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var padding []*x509.Certificate
	for range 4 {
		cert, _ := h.mesh.CA.Intermediate(func(c *x509.Certificate) { c.Subject.CommonName = strings.Repeat("x", 5000) })
		padding = append(padding, cert)
	}
	for _, test := range []struct {
		name  string
		key   crypto.Signer
		chain []*x509.Certificate
		want  string
	}{
		{"a key on P-384", p384, []*x509.Certificate{issuer}, "P-384: P-256 is needed"},
		{"a chain of 20 KB", nil, append([]*x509.Certificate{issuer}, padding...), "16384 are kept"},
	} {
		template, key := h.mesh.CA.Issue("/service/orders")
		if test.key != nil {
			key = test.key
		}
		der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), issuerKey)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		source := h.mesh.CA.Source("/service/orders")
		source.Use(key, append([]*x509.Certificate{cert}, test.chain...)...)
		client, _ := dial(t, source, h.server)
		if _, err := client.Announce(nodetest.Context(t), &keysv1.AnnounceRequest{}); status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %s that says %q", test.name, err, codes.FailedPrecondition, test.want)
		}
	}
}

func TestTheRootOfAChainIsNotKept(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	issuer, issuerKey := h.mesh.CA.Intermediate()
	cert, key := h.mesh.CA.IssueUnder(issuer, issuerKey, "/service/orders")
	source := h.mesh.CA.Source("/service/orders")
	source.Use(key, cert, issuer, h.mesh.CA.Root())
	h.announce(t, source)
	answer, err := h.reader(t).GetKeys(nodetest.Context(t), &keysv1.GetKeysRequest{SpiffeId: "spiffe://mesh.local/service/orders"})
	if err != nil {
		t.Fatal(err)
	}
	if chain := answer.GetKeys()[0].GetChain(); !slices.EqualFunc(chain, [][]byte{cert.Raw, issuer.Raw}, slices.Equal[[]byte]) {
		t.Errorf("a chain of %d certificates, want leaf and issuer", len(chain))
	}
}

func TestTheKeysOfOneWorkloadAreBounded(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		h := newHouse(t, url, func(c *keys.Config) { c.PerIdentity = 8 })
		source := h.mesh.CA.Source("/service/orders")
		var announced []string
		for range 10 {
			source.Renew()
			announced = append(announced, h.announce(t, source))
		}
		slices.Reverse(announced)
		if got := kids(t, h.reader(t), "spiffe://mesh.local/service/orders"); !slices.Equal(got, announced[:8]) {
			t.Errorf("%d keys, want the 8 that end last, newest first", len(got))
		}
	})
}

func TestTheKeyThatEndsFirstMakesRoom(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		h := newHouse(t, url, func(c *keys.Config) { c.PerIdentity = 3 })
		source := h.mesh.CA.Source("/service/orders")
		ending := func(life time.Duration) string {
			source.Renew(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(life) })
			return h.announce(t, source)
		}
		long, short, longer := ending(5*time.Hour), ending(time.Hour), ending(6*time.Hour)
		middle := ending(3 * time.Hour) // in place of the short one
		if got, want := kids(t, h.reader(t), "spiffe://mesh.local/service/orders"), []string{middle, longer, long}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v without %s", got, want, short)
		}
		soon := ending(time.Hour) // it ends first, and was told that it is recorded
		if got, want := kids(t, h.reader(t), "spiffe://mesh.local/service/orders"), []string{soon, longer, long}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

func TestAGoodKeyIsKeptHoweverManyReplicasAnnounce(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	source := h.mesh.CA.Source("/service/big")
	first := h.announce(t, source)
	for range 150 {
		source.Renew()
		h.announce(t, source)
	}
	if got := kids(t, h.reader(t), "spiffe://mesh.local/service/big"); len(got) != 151 || got[150] != first {
		t.Errorf("%d keys, want all 151", len(got))
	}
}

// Attack: chains so long that nobody can read the answer with all keys.
func TestAllKeysOfAWorkloadFitIntoAnAnswer(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		h := newHouse(t, url)
		issuer, issuerKey := h.mesh.CA.Intermediate(func(c *x509.Certificate) { c.Subject.CommonName = strings.Repeat("x", 7000) })
		source := h.mesh.CA.Source("/service/orders")
		var last string
		for range 105 {
			cert, key := h.mesh.CA.IssueUnder(issuer, issuerKey, "/service/orders")
			source.Use(key, cert, issuer)
			last = h.announce(t, source)
		}
		if got := kids(t, h.reader(t), "spiffe://mesh.local/service/orders"); len(got) < 50 || len(got) > 104 || got[0] != last {
			t.Errorf("%d keys, want the newest ones, and as many as fit", len(got))
		}
	})
}

// Attack: identities without end. They take room from no workload that is known, and room is made as keys expire.
func TestTheWorkloadsWithKeysAreBounded(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "", func(c *keys.Config) { c.Identities = 3 })
	sources := map[string]*rolecalltest.Source{}
	for i := range 3 {
		path := fmt.Sprintf("/service/s%d", i)
		sources[path] = h.mesh.CA.Source(path)
		h.announce(t, sources[path])
	}
	late, _ := dial(t, h.mesh.CA.Source("/service/late"), h.server)
	if _, err := late.Announce(nodetest.Context(t), &keysv1.AnnounceRequest{}); status.Code(err) != codes.ResourceExhausted {
		t.Fatalf("one too many: got %v, want %s", err, codes.ResourceExhausted)
	}
	for path, source := range sources {
		source.Renew()
		h.announce(t, source)
		if got := kids(t, h.reader(t), h.mesh.CA.ID(path).String()); len(got) != 2 {
			t.Errorf("%s: %v, want both keys", path, got)
		}
	}
	h.clock.advance(2 * time.Hour)
	if err := h.server.Stop(); err != nil { // a start prunes
		t.Fatal(err)
	}
	h.server = h.start(t)
	late, _ = dial(t, h.mesh.CA.Source("/service/late", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(5 * time.Hour) }), h.server)
	if _, err := late.Announce(nodetest.Context(t), &keysv1.AnnounceRequest{}); err != nil {
		t.Errorf("when the keys of the others have expired: %v", err)
	}
}

func TestExpiredKeysAreNeverReturnedAndPruned(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		source := h.mesh.CA.Source("/service/orders")
		short := h.announce(t, source)
		source.Renew(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(3 * time.Hour) })
		long := h.announce(t, source)
		const id = "spiffe://mesh.local/service/orders"
		reader := h.reader(t)
		h.clock.advance(2 * time.Hour)
		if got := kids(t, reader, id); !slices.Equal(got, []string{long}) {
			t.Errorf("got %v, want %s alone", got, long)
		}
		if _, err := reader.GetKeys(nodetest.Context(t), &keysv1.GetKeysRequest{SpiffeId: id, Kid: short}); status.Code(err) != codes.NotFound {
			t.Errorf("the expired key: got %v, want %s", err, codes.NotFound)
		}
		messages, _ := follow(t, reader, &keysv1.WatchKeysRequest{})
		if m := next(t, messages); m.GetKey().GetKid() != long {
			t.Errorf("got %v, want the key that is valid", m)
		}
		if err := h.server.Stop(); err != nil {
			t.Fatal(err)
		}
		h.server = h.start(t) // prunes
		// Set back, the clock shows what is left.
		h.clock.advance(-2 * time.Hour)
		if got := kids(t, h.reader(t), id); !slices.Equal(got, []string{long}) {
			t.Errorf("with the clock set back: got %v, want %s alone", got, long)
		}
	})
}

// Attack: streams without end of one workload. Others watch all the same.
func TestTheStreamsOfOneWorkloadAreBounded(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "", func(c *keys.Config) { c.Watchers = 2 })
	eve, hangUp := dial(t, h.mesh.CA.Source("/service/eve"), h.server)
	for range 2 {
		messages, _ := follow(t, eve, &keysv1.WatchKeysRequest{})
		next(t, messages)
	}
	_, refused := follow(t, eve, &keysv1.WatchKeysRequest{})
	if err := <-refused; status.Code(err) != codes.ResourceExhausted {
		t.Errorf("one too many ended with %v, want %s", err, codes.ResourceExhausted)
	}
	messages, _ := follow(t, h.reader(t), &keysv1.WatchKeysRequest{})
	next(t, messages)
	hangUp()
	again, _ := dial(t, h.mesh.CA.Source("/service/eve"), h.server)
	await(t, "the streams that ended are forgotten", func() bool {
		messages, ended := follow(t, again, &keysv1.WatchKeysRequest{})
		select {
		case m := <-messages:
			return m != nil // nil: the stream has ended
		case <-ended:
			return false
		}
	})
}

// Attack: a caller that lies about what it knows, to have the streams of all begin anew over and over.
func TestALiarDoesNotEndTheStreamsOfAllOverAndOver(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	eve, _ := dial(t, h.mesh.CA.Source("/service/eve"), h.server)
	lie := func() string {
		t.Helper()
		messages, _ := follow(t, h.reader(t), &keysv1.WatchKeysRequest{})
		epoch := next(t, messages).GetEpoch()
		_, refused := follow(t, eve, &keysv1.WatchKeysRequest{Epoch: epoch, AfterSequence: 7})
		if err := <-refused; status.Code(err) != codes.Unavailable {
			t.Errorf("the liar's own stream ended with %v, want %s", err, codes.Unavailable)
		}
		return epoch
	}
	before, second, third := lie(), lie(), lie()
	if before == second || second != third {
		t.Errorf("the epochs are %s, %s and %s: want the first lie alone to begin a new one", before, second, third)
	}
	if n := strings.Count(h.log.String(), "workload=spiffe://mesh.local/service/eve"); n != 1 {
		t.Errorf("the log names the liar %d times, want once", n)
	}
	h.clock.advance(11 * time.Minute)
	if fourth, fifth := lie(), lie(); fourth == fifth {
		t.Error("ten minutes later a database that was put back is not noticed")
	}
}
