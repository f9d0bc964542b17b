package authority

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/pki"
)

// checkRenewal lets a workload renew its own identity: over a new key, and with no name that its present certificate,
// which the connection was made with, has not.
func checkRenewal(ctx context.Context, request *pki.Request) error {
	present := peerCertificate(ctx)
	if present == nil {
		return status.Error(codes.Internal, "the connection has no certificate")
	}
	if sameKey(present, request.PublicKey) {
		return interceptors.InvalidField("csr", "a renewal needs a new key")
	}
	for _, name := range request.DNSNames {
		if !slices.Contains(present.DNSNames, name) {
			return interceptors.InvalidField("csr", fmt.Sprintf("the present certificate of %s has not the DNS name %s", request.ID, name))
		}
	}
	for _, ip := range request.IPAddresses {
		if !slices.ContainsFunc(present.IPAddresses, func(has net.IP) bool { return has.Equal(ip) }) {
			return interceptors.InvalidField("csr", fmt.Sprintf("the present certificate of %s has not the IP address %s", request.ID, ip))
		}
	}
	return nil
}

// checkCaller refuses whoever shows a certificate under a revoked issuer that was not issued here: until roles.yaml denies
// the issuer's key such a one still connects, and must not be exchanged for a certificate under the next issuer. Every
// method that signs or changes something asks it first.
func (a *Authority) checkCaller(ctx context.Context, caller interceptors.Caller) error {
	present := peerCertificate(ctx)
	if present == nil {
		return nil // each method says what it needs
	}
	err := a.issuers.CheckOnRecord(present)
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, pki.ErrNotOnRecord):
		a.log.ErrorContext(ctx, "record of certificates not read: callers under a revoked issuer are refused", "caller", caller.ID(), "error", err)
		return status.Error(codes.Unavailable, "the authority cannot read its record at present; its log says why")
	}
	caller.Denied("CALLER_NOT_ON_RECORD", err.Error())
	a.log.ErrorContext(ctx, "call with a certificate that was not issued here; deny the issuer's key in roles.yaml", "caller", caller.ID(), "error", err)
	return status.Error(codes.PermissionDenied, "the certificate of this call is under a revoked issuer and not on record")
}

// sameKey reports whether key is the certificate's; a key of a kind that cannot be compared counts as the same.
func sameKey(cert *x509.Certificate, key crypto.PublicKey) bool {
	own, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	return !ok || own.Equal(key)
}

// peerCertificate returns the certificate of the connection, which the guard has verified; nil if there is none.
func peerCertificate(ctx context.Context) *x509.Certificate {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) == 0 {
		return nil
	}
	return info.State.PeerCertificates[0]
}
