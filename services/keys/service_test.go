package keys_test

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	keysv1 "example.com/rolecall/gen/keys/v1"
	"example.com/rolecall/internal/node/nodetest"
)

func TestAWorkloadIsFoundByWhatItAnnounced(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		source := h.mesh.CA.Source("/service/orders")
		kid := h.announce(t, source)
		cert := leaf(t, source)
		id := h.mesh.CA.ID("/service/orders").String()
		want := &keysv1.Key{SpiffeId: id, Kid: kid, Chain: [][]byte{cert.Raw}, ExpireTime: timestamppb.New(cert.NotAfter)}
		for _, asked := range []string{"", kid} {
			answer, err := h.reader(t).GetKeys(nodetest.Context(t), &keysv1.GetKeysRequest{SpiffeId: id, Kid: asked})
			if err != nil {
				t.Fatalf("get key %q: %v", asked, err)
			}
			if diff := cmp.Diff([]*keysv1.Key{want}, answer.GetKeys(), protocmp.Transform()); diff != "" {
				t.Errorf("key %q (-want +got):\n%s", asked, diff)
			}
			var set struct{ Keys []map[string]any }
			if err := json.Unmarshal([]byte(answer.GetJwks()), &set); err != nil || len(set.Keys) != 1 {
				t.Fatalf("JWK set %s: %v", answer.GetJwks(), err)
			}
			jwk := set.Keys[0]
			// RFC 7638 section 3, by hand.
			sum := sha256.Sum256(fmt.Appendf(nil, `{"crv":%q,"kty":%q,"x":%q,"y":%q}`, jwk["crv"], jwk["kty"], jwk["x"], jwk["y"]))
			if thumbprint := base64.RawURLEncoding.EncodeToString(sum[:]); thumbprint != kid {
				t.Errorf("the key in the set has the thumbprint %s, want %s", thumbprint, kid)
			}
			delete(jwk, "x")
			delete(jwk, "y")
			if diff := cmp.Diff(map[string]any{
				"kty": "EC", "crv": "P-256", "kid": kid, "alg": "ES256", "use": "sig", "x5c": []any{base64.StdEncoding.EncodeToString(cert.Raw)},
			}, jwk); diff != "" {
				t.Errorf("members of the JWK (-want +got):\n%s", diff)
			}
		}
	})
}

func TestEarlierKeysThatAreValidStayNewestFirst(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		source := h.mesh.CA.Source("/service/orders")
		var want []string
		for range 4 {
			source.Renew()
			want = append([]string{h.announce(t, source)}, want...)
		}
		id := h.mesh.CA.ID("/service/orders").String()
		if got := kids(t, h.reader(t), id); !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

func TestAnnouncedAgainAKeyIsNoNews(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		source := h.mesh.CA.Source("/service/orders")
		first := h.announce(t, source)
		client, _ := dial(t, source, h.server)
		for range 3 {
			if answer, err := client.Announce(nodetest.Context(t), &keysv1.AnnounceRequest{}); err != nil || answer.GetKid() != first ||
				!answer.GetExpireTime().AsTime().Equal(leaf(t, source).NotAfter) {
				t.Errorf("got %v, %v; want %s again", answer, err, first)
			}
		}
		messages, _ := follow(t, h.reader(t), &keysv1.WatchKeysRequest{})
		if m := next(t, messages); m.GetKey().GetKid() != first || m.GetSequence() != 1 {
			t.Errorf("got %v, want the key with number 1", m)
		}
		if m := next(t, messages); m.GetSnapshotComplete() == nil || m.GetSequence() != 1 {
			t.Errorf("got %v, want the end of the snapshot at number 1", m)
		}
	})
}

func TestACertificateOverTheSameKeyThatLastsLongerTakesThePlaceOfTheOther(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		source := h.mesh.CA.Source("/service/orders")
		issuer, issuerKey := h.mesh.CA.Intermediate()
		svid, err := source.GetX509SVID()
		if err != nil {
			t.Fatal(err)
		}
		again := func(life time.Duration) *x509.Certificate {
			template := *svid.Certificates[0]
			template.NotAfter = time.Now().Add(life)
			der, err := x509.CreateCertificate(rand.Reader, &template, issuer, svid.PrivateKey.Public(), issuerKey)
			if err != nil {
				t.Fatal(err)
			}
			cert, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			return cert
		}
		kid := h.announce(t, source)
		id := h.mesh.CA.ID("/service/orders").String()
		for _, step := range []struct {
			name string
			life time.Duration
			want bool
		}{{"one that ends sooner", 30 * time.Minute, false}, {"one that lasts longer", 2 * time.Hour, true}} {
			cert := again(step.life)
			source.Use(svid.PrivateKey, cert, issuer)
			if got := h.announce(t, source); got != kid {
				t.Fatalf("%s: announced as %s, want %s", step.name, got, kid)
			}
			answer, err := h.reader(t).GetKeys(nodetest.Context(t), &keysv1.GetKeysRequest{SpiffeId: id})
			if err != nil || len(answer.GetKeys()) != 1 {
				t.Fatalf("%s: %v, %v; want one key", step.name, answer, err)
			}
			if taken := slices.EqualFunc(answer.GetKeys()[0].GetChain(), [][]byte{cert.Raw, issuer.Raw}, slices.Equal[[]byte]); taken != step.want {
				t.Errorf("%s: taken %v, want %v", step.name, taken, step.want)
			}
		}
	})
}

func TestKeysOfWhoIsNotKnownAreNotFound(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		kid := h.announce(t, h.mesh.CA.Source("/service/orders"))
		reader := h.reader(t)
		for _, test := range []struct {
			name, id, kid string
			want          codes.Code
		}{
			{"another workload", "spiffe://mesh.local/service/ledger", "", codes.NotFound},
			{"the key of another workload", "spiffe://mesh.local/service/ledger", kid, codes.NotFound},
			{"another key of the workload", "spiffe://mesh.local/service/orders", "A" + kid[1:42] + "_", codes.NotFound},
			{"another trust domain", "spiffe://other.example/service/orders", "", codes.NotFound},
			{"a path that goes on", "spiffe://mesh.local/service/orders/x", "", codes.NotFound},
			{"upper case in the path", "spiffe://mesh.local/service/Orders", "", codes.NotFound},
			{"a path with a percent sign, for SQL LIKE", "spiffe://mesh.local/service/%", "", codes.InvalidArgument},
			{"a path with a quote, for SQL", "spiffe://mesh.local/service/orders'--", "", codes.InvalidArgument},
			{"upper case in the trust domain", "spiffe://MESH.local/service/orders", "", codes.InvalidArgument},
			{"no ID", "", "", codes.InvalidArgument},
			{"a path that climbs", "spiffe://mesh.local/service/../service/orders", "", codes.InvalidArgument},
			{"a slash at the end", "spiffe://mesh.local/service/orders/", "", codes.InvalidArgument},
			{"a zero byte", "spiffe://mesh.local/service/orders\x00", "", codes.InvalidArgument},
			{"an ID of 3 KB", "spiffe://mesh.local/" + strings.Repeat("a", 3000), "", codes.InvalidArgument},
			{"a thumbprint that is too short", "spiffe://mesh.local/service/orders", kid[:42], codes.InvalidArgument},
			{"a thumbprint with other letters", "spiffe://mesh.local/service/orders", kid[:42] + "=", codes.InvalidArgument},
			{"a thumbprint with an end of line", "spiffe://mesh.local/service/orders", kid + "\n", codes.InvalidArgument},
		} {
			if _, err := reader.GetKeys(nodetest.Context(t), &keysv1.GetKeysRequest{SpiffeId: test.id, Kid: test.kid}); status.Code(err) != test.want {
				t.Errorf("%s: got %v, want %s", test.name, err, test.want)
			}
		}
	})
}

func TestWorkloadsWithOddNamesAreFoundByThese(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		long := "/" + strings.Repeat("a", 1900)
		for _, path := range []string{"/a", "/A", "/service/a_b", "/service/a-b", "/ns/shop/sa/orders", "/service/a.b", "/...", "/1", long} {
			kid := h.announce(t, h.mesh.CA.Source(path))
			if got := kids(t, h.reader(t), h.mesh.CA.ID(path).String()); !slices.Equal(got, []string{kid}) {
				t.Errorf("%s: got %v, want %s", path, got, kid)
			}
		}
	})
}

func TestKeysSurviveARestart(t *testing.T) {
	each(t, func(t *testing.T, h *house) {
		source := h.mesh.CA.Source("/service/orders")
		first := h.announce(t, source)
		source.Renew()
		second := h.announce(t, source)
		if err := h.server.Stop(); err != nil {
			t.Fatalf("stop: %v", err)
		}
		h.server = h.start(t)
		if got := kids(t, h.reader(t), h.mesh.CA.ID("/service/orders").String()); !slices.Equal(got, []string{second, first}) {
			t.Errorf("got %v, want %v", got, []string{second, first})
		}
	})
}
