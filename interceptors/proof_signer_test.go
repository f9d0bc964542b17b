package interceptors_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc/codes"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/internal/feature"
)

var signingKey = sha256.Sum256([]byte("a key of the signer"))

const foreignClerk = "spiffe://other.example/service/clerk"

func TestASignerIsDecidedAboutAsAPeerIs(t *testing.T) {
	t.Parallel()
	by := func(id string) fakeProof { return fakeProof{Signer: spiffeid.RequireFromString(id), Key: signingKey} }
	narrowed := func(id string, roles ...string) fakeProof {
		p := by(id)
		p.Narrowed, p.Roles = true, roles
		return p
	}
	const (
		clerkID  = "spiffe://mesh.local" + clerk
		nobodyID = "spiffe://mesh.local" + nobody
	)
	keyDenied := tillRoles + `denied: [{keySha256: "` + hex.EncodeToString(signingKey[:]) + "\"}]\n"
	for _, c := range []struct {
		name     string
		bindings string // tillRoles if empty
		peer     string
		proof    fakeProof
		method   string
		reason   string // empty: allowed
		of, role string // in the refusal's metadata
	}{
		{"signer with the role", "", manager, by(clerkID), pay, "", "", ""},
		{"signer without the role", "", manager, by(nobodyID), pay, "ROLE_REQUIRED", "signer", "till.clerk"},
		{"peer without the role", "", nobody, by(clerkID), pay, "ROLE_REQUIRED", "", "till.clerk"},
		{"signer denied", tillRoles + "denied: [{member: " + clerkID + ", reason: lost in May}]\n", manager, by(clerkID), pay, "IDENTITY_DENIED", "signer", ""},
		{"signer's key denied", keyDenied, manager, by(clerkID), pay, "IDENTITY_DENIED", "signer", ""},
		{"peer's former key denied, with which it signed", keyDenied, clerk, fakeProof{Key: signingKey}, pay, "IDENTITY_DENIED", "signer", ""},
		{"signer that kept the role", "", manager, narrowed(clerkID, "till.clerk"), pay, "", "", ""},
		{"signer that kept another role", "", manager, narrowed(clerkID, "till.manager no.such"), pay, "", "", ""},
		{"signer that kept no role", "", manager, narrowed(clerkID), pay, "ROLE_REQUIRED", "signer", "till.clerk"},
		{"signer that kept an empty list", "", manager, narrowed(clerkID, ""), pay, "ROLE_REQUIRED", "signer", "till.clerk"},
		{"signer whose lists have nothing in common", "", manager, narrowed(clerkID, "till.clerk", "no.such"), pay, "ROLE_REQUIRED", "signer", "till.clerk"},
		{"signer of another trust domain that is bound by name", "", manager, by(foreignClerk), pay, "", "", ""},
		{"signer of another trust domain that is not", "", manager, by("spiffe://other.example/service/other"), pay, "ROLE_REQUIRED", "signer", "till.clerk"},
		{"any_workload, signed by any workload", "", nobody, by("spiffe://mesh.local/service/new"), show, "", "", ""},
		{"any_workload, signed in another trust domain", "", nobody, by(foreignClerk), show, "ROLE_REQUIRED", "signer", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var configure []func(*meshConfig)
			if c.bindings != "" {
				configure = append(configure, bindings(c.bindings))
			}
			m, s := newTill(t, configure...)
			conn := connected(t, m.dial(c.peer))
			err := ask(proving(timeout(t), c.proof), conn, c.method)
			signer := c.proof.Signer.String()
			if c.proof.Signer.IsZero() {
				signer = clerkID
			}
			if c.reason == "" {
				must(t, err)
				m.audit.find(t, map[string]any{"verdict": "allowed", "method": c.method, "workload": "spiffe://mesh.local" + c.peer, "signer": signer})
				return
			}
			info := refused(t, err, codes.PermissionDenied, c.reason)
			if info["of"] != c.of || info["role"] != c.role || info["method"] != c.method {
				t.Errorf("metadata %v, want of=%q and role=%q", info, c.of, c.role)
			}
			want := map[string]any{"verdict": "denied", "reason": c.reason, "workload": "spiffe://mesh.local" + c.peer}
			if c.of != "" {
				want["signer"] = signer
			}
			record := m.audit.find(t, want)
			t.Logf("audit: %v", record)
			if used := m.proofs.used(); len(used) > 0 || s.reached.Load() > 0 {
				t.Errorf("used up %v, handlers reached %d times", used, s.reached.Load())
			}
			// The connection is the peer's, and stays, whatever is said of the signer.
			if c.of == "signer" {
				must(t, ask(timeout(t), conn, look))
				if n := m.server.Books().Connections; n != 1 {
					t.Errorf("%d connections, want the one", n)
				}
			}
		})
	}
}

func TestAHandlerSeesWhoSigned(t *testing.T) {
	t.Parallel()
	m, s := newTill(t)
	type seen struct {
		id, signer      string
		proven          bool
		clerk, manager  bool
		requiresManager error
	}
	var got seen
	s.handle = func(ctx context.Context, _ *ledgerv1.OpenAccountRequest) (any, error) {
		caller := interceptors.CallerFrom(ctx)
		id, ok := caller.Signer()
		got = seen{caller.ID().String(), id.String(), ok, caller.HasRole("till.clerk"), caller.HasRole("till.manager"), nil}
		if !got.manager {
			got.requiresManager = caller.Require("till.manager")
		}
		return &ledgerv1.OpenAccountResponse{}, nil
	}
	const clerkID, managerID = "spiffe://mesh.local" + clerk, "spiffe://mesh.local" + manager
	relayed := proving(timeout(t), fakeProof{Signer: spiffeid.RequireFromString(clerkID)})
	for _, c := range []struct {
		name   string
		ctx    context.Context
		method string
		want   seen
		of     string // of the refusal of Require
	}{
		{"its own request", timeout(t), pay, seen{id: managerID, signer: managerID, proven: true, clerk: true, manager: true}, ""},
		{"a request that another signed", relayed, pay, seen{id: managerID, signer: clerkID, proven: true, clerk: true}, "signer"},
		{"the same, to take effect once", relayed, payOnce, seen{id: managerID, signer: clerkID, proven: true, clerk: true}, "signer"},
		{"a method without a proof", relayed, look, seen{id: managerID, clerk: true, manager: true}, ""},
	} {
		must(t, ask(c.ctx, m.dial(manager), c.method))
		if c.of != "" {
			if info := refused(t, got.requiresManager, codes.PermissionDenied, "ROLE_REQUIRED"); info["of"] != c.of || info["role"] != "till.manager" {
				t.Errorf("%s: metadata %v", c.name, info)
			}
			got.requiresManager = nil
		}
		if got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
	if _, ok := interceptors.CallerFrom(t.Context()).Signer(); ok {
		t.Error("nobody has signed something")
	}
}

func TestAProofIsUsedUpOnceEverythingElseHolds(t *testing.T) {
	t.Parallel()
	m, s := newTill(t)
	must(t, ask(proving(timeout(t), fakeProof{Nonce: "one"}), m.dial(clerk), pay))
	_, err := followOnce(proving(timeout(t), fakeProof{Nonce: "two"}), m.dial(clerk))
	must(t, err)
	// Used up in the transaction of the effect.
	must(t, ask(proving(timeout(t), fakeProof{Nonce: "three"}), m.dial(clerk), payOnce))
	if used := m.proofs.used(); !slices.Equal(used, []string{"one", "two"}) || s.reached.Load() != 3 {
		t.Errorf("used up %q, handlers reached %d times, want one and two, and 3", used, s.reached.Load())
	}
	if p := m.once.seen()[0].Proof; p == nil || p.Nonce != "three" {
		t.Errorf("exactly once got the proof %+v, want three", p)
	}
	m.proofs.allow = func(*feature.Proof) feature.Verdict { return feature.Full }
	refused(t, ask(timeout(t), m.dial(clerk), payOnce), codes.ResourceExhausted, "PROOF_WINDOW_FULL")
	if n := len(m.once.seen()); n != 1 {
		t.Errorf("exactly once was asked %d times, want 1", n)
	}
}
