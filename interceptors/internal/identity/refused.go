package identity

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
)

// Reason says in one word why a handshake failed, for metrics and audit records. The peer learns only TLS's alert.
type Reason string

const (
	ReasonNotTLS         Reason = "not_tls"
	ReasonVersion        Reason = "tls_version"
	ReasonALPN           Reason = "alpn"
	ReasonNoCertificate  Reason = "no_certificate"
	ReasonUntrusted      Reason = "untrusted"
	ReasonTrustDomain    Reason = "trust_domain"
	ReasonExpired        Reason = "expired"
	ReasonInvalid        Reason = "invalid_certificate"
	ReasonProfile        Reason = "certificate_profile"
	ReasonWrongServer    Reason = "wrong_server"
	ReasonDenied         Reason = "denied"
	ReasonTooMany        Reason = "too_many_connections"
	ReasonTimeout        Reason = "timeout"
	ReasonGone           Reason = "peer_gone"
	ReasonRefused        Reason = "refused_by_peer"
	ReasonCanceled       Reason = "canceled"
	ReasonOwnCertificate Reason = "own_certificate"
	ReasonOther          Reason = "other"
)

// HandshakeError is a handshake that failed, and why.
type HandshakeError struct {
	Reason Reason
	// Claimed is the URI name of the certificate that was refused, if it had one: a claim, cut to 256 bytes.
	Claimed string
	Err     error
}

func (e *HandshakeError) Error() string { return "TLS handshake: " + e.Err.Error() }
func (e *HandshakeError) Unwrap() error { return e.Err }

func refuse(reason Reason, err error) *HandshakeError {
	return &HandshakeError{Reason: reason, Err: err}
}

// classify finds the reason of a handshake's error. crypto/tls has no error values for most of them, so their texts
// are looked at; a text that changes costs us a label, nothing else.
func classify(err error) *HandshakeError {
	var known *HandshakeError
	if errors.As(err, &known) {
		return known
	}
	var header tls.RecordHeaderError
	var netErr net.Error
	text := err.Error()
	switch {
	case errors.As(err, &header):
		return refuse(ReasonNotTLS, err)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		return refuse(ReasonTimeout, err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), strings.Contains(text, "connection reset"):
		return refuse(ReasonGone, err)
	case strings.Contains(text, "remote error"):
		return refuse(ReasonRefused, err)
	case strings.Contains(text, "unsupported versions"), strings.Contains(text, "protocol version"):
		return refuse(ReasonVersion, err)
	case strings.Contains(text, "application protocol"):
		return refuse(ReasonALPN, err)
	case strings.Contains(text, "didn't provide a certificate"):
		return refuse(ReasonNoCertificate, err)
	case strings.Contains(text, "certificate"):
		return refuse(ReasonInvalid, err)
	}
	return refuse(ReasonOther, err)
}

func claimedName(state tls.ConnectionState) string {
	if len(state.PeerCertificates) == 0 || len(state.PeerCertificates[0].URIs) == 0 {
		return ""
	}
	name := state.PeerCertificates[0].URIs[0].String()
	return name[:min(len(name), 256)]
}
