package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"testing"
)

func TestTheReasonOfAFailedHandshakeIsTold(t *testing.T) {
	t.Parallel()
	remote := func(text string) error { return &net.OpError{Op: "remote error", Err: errors.New(text)} }
	for _, c := range []struct {
		err  error
		want Reason
	}{
		{refuse(ReasonProfile, io.EOF), ReasonProfile},
		{fmt.Errorf("wrapped: %w", refuse(ReasonDenied, io.EOF)), ReasonDenied},
		{tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}, ReasonNotTLS},
		{&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}, ReasonTimeout},
		{io.EOF, ReasonGone},
		{&net.OpError{Op: "read", Err: net.ErrClosed}, ReasonGone},
		{errors.New("read tcp: connection reset by peer"), ReasonGone},
		{remote("tls: unknown certificate authority"), ReasonRefused},
		{remote("tls: protocol version not supported"), ReasonRefused},
		{errors.New("tls: client offered only unsupported versions: [303]"), ReasonVersion},
		{errors.New(`tls: client requested unsupported application protocols ["http/1.1"]`), ReasonALPN},
		{errors.New("tls: client didn't provide a certificate"), ReasonNoCertificate},
		{errors.New("tls: invalid signature by the client certificate"), ReasonInvalid},
		{errors.New("something new"), ReasonOther},
	} {
		if got := classify(c.err); got.Reason != c.want {
			t.Errorf("%v: got reason %s, want %s", c.err, got.Reason, c.want)
		}
	}
}

func TestAClaimedNameIsCut(t *testing.T) {
	t.Parallel()
	state := func(uris ...*url.URL) tls.ConnectionState {
		return tls.ConnectionState{PeerCertificates: []*x509.Certificate{{URIs: uris}}}
	}
	long := &url.URL{Scheme: "spiffe", Host: "mesh.local", Path: "/" + strings.Repeat("a", 3000)}
	for _, c := range []struct {
		state tls.ConnectionState
		want  int // bytes
	}{{tls.ConnectionState{}, 0}, {state(), 0}, {state(ledger.URL()), len(ledger.String())}, {state(long), 256}} {
		if got := claimedName(c.state); len(got) != c.want {
			t.Errorf("got %q of %d bytes, want %d", got, len(got), c.want)
		}
	}
}
