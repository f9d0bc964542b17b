package demo

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"

	"golang.org/x/net/http2"

	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/mesh"
)

// eveForges shows Eve with a certificate authority of her own.
func (t *tour) eveForges(ctx context.Context) error {
	t.scene("Eve forges: a certificate is worth what its signature is")
	alice := t.people["alice"]
	forged, err := forge(alice.id)
	if err != nil {
		return err
	}
	_, err = t.play(ctx, attempt{
		what: "Eve founds a certificate authority and signs herself a certificate with alice's name",
		command: "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=Eve -keyout $tmp/eve.key -out $tmp/eve.crt -addext " +
			cli.Quote("subjectAltName=URI:"+alice.id.String()) + "\n" + "grpcurl -insecure -cert $tmp/eve.crt -key $tmp/eve.key " + cli.Quote(t.target("ledger"), "list"),
		try:  t.knocks(&tls.Config{Certificates: []tls.Certificate{forged}}),
		want: refusedAt("untrusted"),
		why:  "A chain must end at a root in " + cli.Relative(t.file.Bundle) + "; what a certificate says of itself counts for nothing.",
	})
	return err
}

// eveWithout shows Eve with less than mutual TLS 1.3.
func (t *tour) eveWithout(ctx context.Context) error {
	t.scene("Eve goes without: no certificate, no TLS, an older TLS")
	alice := t.people["alice"]
	svid, err := alice.source.GetX509SVID()
	if err != nil {
		return err
	}
	own := tls.Certificate{PrivateKey: svid.PrivateKey}
	for _, c := range svid.Certificates {
		own.Certificate = append(own.Certificate, c.Raw)
	}
	operator, _ := t.file.Operator("alice")
	for _, a := range []attempt{
		{
			what:    "Eve shows no certificate",
			command: cli.Quote("grpcurl", "-insecure", t.target("ledger"), "list"),
			try:     t.knocks(&tls.Config{}),
			want:    refusedAt("no_certificate"),
			why:     "TLS is mutual: a caller without a certificate is nobody.",
		},
		{
			what:    "Eve leaves TLS out",
			command: cli.Quote("grpcurl", "-plaintext", t.target("ledger"), "list"),
			try:     t.knocks(nil),
			want:    refusedAt("not_tls"),
			why:     "There is no port that speaks gRPC without TLS.",
		},
		{
			what: "even alice herself is refused if she offers no more than TLS 1.2",
			command: cli.Quote("openssl", "s_client", "-connect", t.target("ledger"), "-tls1_2", "-alpn", "h2",
				"-cert", cli.Relative(operator.Cert), "-key", cli.Relative(operator.Key)),
			try:  t.knocks(&tls.Config{Certificates: []tls.Certificate{own}, MaxVersion: tls.VersionTLS12}),
			want: refusedAt("tls_version"),
			why:  "In TLS 1.2 the certificates go over the wire in the clear; TLS 1.3 or nothing.",
		},
	} {
		if _, err := t.play(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

// knocks tries to get the ledger to speak HTTP/2 over TLS of this kind, or over none if config is nil. Like grpcurl
// -insecure it takes any server for the right one.
func (t *tour) knocks(config *tls.Config) func(context.Context) outcome {
	return func(ctx context.Context) outcome {
		began := time.Now()
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", t.ledger.Address)
		if err != nil {
			return outcome{code: noConnection, text: err.Error()}
		}
		defer conn.Close() //nolint:errcheck // there is nothing more to say
		defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
		us, talk := conn.LocalAddr().String(), conn
		if config != nil {
			anyServer := config.Clone()
			anyServer.InsecureSkipVerify, anyServer.NextProtos = true, []string{http2.NextProtoTLS}
			talk = tls.Client(conn, anyServer)
		}
		if err := greet(talk, config == nil); err == nil {
			return outcome{code: ok.code, text: "the server answered in HTTP/2"}
		} else if config == nil {
			// What a server does with bytes that are no TLS is to hang up; how that looks depends on the system.
			return t.noted(ctx, t.ledger, us, began, "the server hangs up")
		} else {
			return t.noted(ctx, t.ledger, us, began, err.Error())
		}
	}
}

// greet waits until the server begins HTTP/2, with its SETTINGS frame. In TLS 1.3 a client learns only by reading that its
// certificate was refused. In plaintext the server waits for our first bytes.
func greet(conn net.Conn, first bool) error {
	if first {
		if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
			return err
		}
	}
	var header [9]byte // RFC 9113 §4.1: length in three bytes, type, flags, stream
	if _, err := io.ReadFull(conn, header[:]); err != nil {
		return err
	}
	if http2.FrameType(header[3]) != http2.FrameSettings {
		return errors.New("the server does not answer in HTTP/2")
	}
	return nil
}

// noted adds what a service wrote into its log about this connection.
func (t *tour) noted(ctx context.Context, service mesh.Service, us string, began time.Time, text string) outcome {
	o := outcome{code: noConnection, text: text}
	r, err := findRecord(ctx, t.dir.Log(service.Name), us, began)
	if err != nil {
		o.noted = err.Error()
		return o
	}
	o.reason = r.Reason
	o.noted = "The audit record of " + service.Name + " says more: " + r.Detail
	if r.Claimed != "" {
		o.noted += "; claimed to be " + r.Claimed
	}
	return o
}
