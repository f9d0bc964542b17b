//go:build linux || darwin

package agent

import (
	"context"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func TestAttacksOnTheWorkloadAPI(t *testing.T) {
	t.Parallel()
	a, signer := startJWTAgent(t, nil)
	token, err := signer.SignJWT(t.Context(), a.id("/service/orders"), []string{"x"})
	if err != nil {
		t.Fatal(err)
	}
	client := dial(t, a.address())
	for _, c := range []struct {
		attack  string
		headers []string
		want    codes.Code
	}{
		{"the right header, for comparison", []string{"workload.spiffe.io", "true"}, codes.OK},
		{"no security header", nil, codes.InvalidArgument},
		{"the header with True", []string{"workload.spiffe.io", "True"}, codes.InvalidArgument},
		{"the header with false", []string{"workload.spiffe.io", "false"}, codes.InvalidArgument},
		{"an empty header", []string{"workload.spiffe.io", ""}, codes.InvalidArgument},
		{"the header twice", []string{"workload.spiffe.io", "true", "workload.spiffe.io", "true"}, codes.InvalidArgument},
		{"the header as binary", []string{"workload.spiffe.io-bin", "true"}, codes.InvalidArgument},
	} {
		t.Run(c.attack, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(t.Context(), c.headers...), patience)
			defer cancel()
			x509, err := client.FetchX509SVID(ctx, &workload.X509SVIDRequest{})
			if err == nil {
				_, err = x509.Recv()
			}
			if got := status.Code(err); got != c.want {
				t.Errorf("FetchX509SVID: %v, want %s", err, c.want)
			}
			bundles, err := client.FetchX509Bundles(ctx, &workload.X509BundlesRequest{})
			if err == nil {
				_, err = bundles.Recv()
			}
			if got := status.Code(err); got != c.want {
				t.Errorf("FetchX509Bundles: %v, want %s", err, c.want)
			}
			keys, err := client.FetchJWTBundles(ctx, &workload.JWTBundlesRequest{})
			if err == nil {
				_, err = keys.Recv()
			}
			if got := status.Code(err); got != c.want {
				t.Errorf("FetchJWTBundles: %v, want %s", err, c.want)
			}
			if _, err := client.FetchJWTSVID(ctx, &workload.JWTSVIDRequest{Audience: []string{"x"}}); status.Code(err) != c.want {
				t.Errorf("FetchJWTSVID: %v, want %s", err, c.want)
			}
			if _, err := client.ValidateJWTSVID(ctx, &workload.ValidateJWTSVIDRequest{Audience: "x", Svid: token}); status.Code(err) != c.want {
				t.Errorf("ValidateJWTSVID: %v, want %s", err, c.want)
			}
			want := c.want
			if want == codes.OK {
				want = codes.Unimplemented // of this version, behind the same check
			}
			wit, err := client.FetchWITSVID(ctx, &workload.WITSVIDRequest{})
			if err == nil {
				_, err = wit.Recv()
			}
			if status.Code(err) != want {
				t.Errorf("FetchWITSVID: %v, want %s", err, want)
			}
		})
	}
}

func TestAttackAProcessThatNobodyKnows(t *testing.T) {
	t.Parallel()
	a := startAgent(t, nil)
	other, _ := start(t, "wait", "")
	a.registerProcess(t, "/service/ledger", other.Process.Pid)
	if got := fetch(a.config.Socket); got != "PermissionDenied" {
		t.Errorf("the parent of a registered process got %q, want PermissionDenied", got)
	}
	if _, got := start(t, "fetch", a.config.Socket); got != "PermissionDenied" {
		t.Errorf("the sibling of a registered process got %q, want PermissionDenied", got)
	}
}

func TestAttackMoreStreamsThanAProcessMayHave(t *testing.T) {
	t.Parallel()
	a := startAgent(t, func(c *Config, _ *testSigner) { c.StreamsPerProcess = 3 })
	a.register(t, "/service/ledger")
	for range 3 {
		openStream(t, a) // each on a connection of its own
	}
	ctx, cancel := context.WithTimeout(withHeader(t.Context()), patience)
	defer cancel()
	stream, err := dial(t, a.address()).FetchX509SVID(ctx, &workload.X509SVIDRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("one stream too many: %v, want ResourceExhausted", err)
	}
}

func TestAttackRubbishOnTheControlSocket(t *testing.T) {
	t.Parallel()
	a := startAgent(t, nil)
	for _, c := range []struct{ attack, line, want string }{
		{"no JSON", "hello\n", "not a request"},
		{"an unknown operation", `{"op":"stop"}` + "\n", "unknown operation"},
		{"another trust domain", `{"op":"register","spiffe_id":"spiffe://evil.local/service/x","pid":1,"start_time":1}` + "\n", "not of the trust domain"},
		{"an ID without a path", `{"op":"register","spiffe_id":"spiffe://mesh.local","pid":1,"start_time":1}` + "\n", "has no path"},
		{"a pid that is none", `{"op":"register","spiffe_id":"spiffe://mesh.local/service/x","pid":-1,"start_time":1}` + "\n", "ended"},
		{"a line without an end", strings.Repeat("x", maxControlLine+1), "one line of JSON"},
	} {
		t.Run(c.attack, func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("unix", a.config.Control)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			go func() { _, _ = io.WriteString(conn, c.line) }()
			answer := make([]byte, 512)
			n, _ := conn.Read(answer)
			if got := string(answer[:n]); !strings.Contains(got, c.want) {
				t.Errorf("answer %q, want %q", got, c.want)
			}
		})
	}
}
