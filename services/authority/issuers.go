package authority

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	authorityv1 "example.com/rolecall/gen/authority/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/pki"
)

// Bounds of what an operator sends.
const (
	maxCertificate = 16 << 10 // bytes
	maxReason      = 500      // bytes
)

// issuerStates are the states as they go over the wire.
var issuerStates = map[pki.State]authorityv1.IssuerState{
	pki.Prepared: authorityv1.IssuerState_ISSUER_STATE_PREPARED,
	pki.Active:   authorityv1.IssuerState_ISSUER_STATE_ACTIVE,
	pki.Retiring: authorityv1.IssuerState_ISSUER_STATE_RETIRING,
	pki.Retired:  authorityv1.IssuerState_ISSUER_STATE_RETIRED,
	pki.Revoked:  authorityv1.IssuerState_ISSUER_STATE_REVOKED,
}

// ListIssuers returns every issuer, oldest first, and when somebody must act.
func (a *Authority) ListIssuers(context.Context, *authorityv1.ListIssuersRequest) (*authorityv1.ListIssuersResponse, error) {
	answer := &authorityv1.ListIssuersResponse{}
	for _, s := range a.issuers.Status() {
		answer.Issuers = append(answer.Issuers, issuerMessage(s))
	}
	if act := a.issuers.ActBy(); !act.When.IsZero() {
		answer.ActBy, answer.ActReason = timestamppb.New(act.When), actReason(act)
	}
	return answer, nil
}

// PrepareIssuer answers with the CSR of the next issuer, or puts the certificate in place that the root made of it.
func (a *Authority) PrepareIssuer(ctx context.Context, req *authorityv1.PrepareIssuerRequest) (*authorityv1.PrepareIssuerResponse, error) {
	if err := a.checkCaller(ctx, interceptors.CallerFrom(ctx)); err != nil {
		return nil, err
	}
	if len(req.GetCertificate()) == 0 {
		csr, generation, err := a.issuers.RequestIssuer()
		if err != nil {
			return nil, a.issuerError(ctx, "issuer request", "certificate", err)
		}
		a.log.InfoContext(ctx, "issuer requested", "by", interceptors.CallerFrom(ctx).ID(), "generation", generation)
		return &authorityv1.PrepareIssuerResponse{Csr: csr, Generation: int32(generation)}, nil
	}
	cert, err := certificate(req.GetCertificate())
	if err != nil {
		return nil, a.issuerError(ctx, "issuer import", "certificate", err)
	}
	prepared, err := a.issuers.ImportIssuer(cert)
	if err != nil {
		return nil, a.issuerError(ctx, "issuer import", "certificate", err)
	}
	a.changed(ctx, "issuer imported", prepared)
	return &authorityv1.PrepareIssuerResponse{Generation: int32(prepared.Generation), Issuer: issuerMessage(prepared)}, nil
}

// ActivateIssuer lets a prepared issuer sign from now on.
func (a *Authority) ActivateIssuer(ctx context.Context, req *authorityv1.ActivateIssuerRequest) (*authorityv1.ActivateIssuerResponse, error) {
	if err := a.checkCaller(ctx, interceptors.CallerFrom(ctx)); err != nil {
		return nil, err
	}
	active, err := a.issuers.Activate(int(req.GetGeneration()))
	if err != nil {
		return nil, a.issuerError(ctx, "issuer activation", "generation", err)
	}
	a.changed(ctx, "issuer activated", active)
	return &authorityv1.ActivateIssuerResponse{Issuer: issuerMessage(active)}, nil
}

// RevokeIssuer stops an issuer for good. The bundle that names it is out before the answer is.
func (a *Authority) RevokeIssuer(ctx context.Context, req *authorityv1.RevokeIssuerRequest) (*authorityv1.RevokeIssuerResponse, error) {
	if err := a.checkCaller(ctx, interceptors.CallerFrom(ctx)); err != nil {
		return nil, err
	}
	if n := len(req.GetReason()); n == 0 || n > maxReason {
		return nil, interceptors.InvalidField("reason", fmt.Sprintf("%d bytes: 1 to %d are needed, for the record", n, maxReason))
	}
	revoked, err := a.issuers.Revoke(int(req.GetGeneration()), req.GetReason())
	if err != nil {
		return nil, a.issuerError(ctx, "issuer revocation", "generation", err)
	}
	a.changed(ctx, "issuer revoked", revoked, "reason", req.GetReason())
	return &authorityv1.RevokeIssuerResponse{Issuer: issuerMessage(revoked)}, nil
}

// changed records who changed an issuer, and lets everybody know of it at once.
func (a *Authority) changed(ctx context.Context, what string, s pki.IssuerStatus, more ...any) {
	a.log.InfoContext(ctx, what, append([]any{"by", interceptors.CallerFrom(ctx).ID(), "generation", s.Generation,
		"subject", s.Subject, "state", s.State, "not_after", s.NotAfter}, more...)...)
	if err := a.refreshIssuers(); err != nil {
		a.log.ErrorContext(ctx, "the change is made, and not told to everybody yet; it is tried again in seconds", "error", err)
	}
}

// issuerError tells an operator why something does not fit, and leaves trouble of the machine to the log.
func (a *Authority) issuerError(ctx context.Context, what, field string, err error) error {
	a.log.WarnContext(ctx, what+" refused", "by", interceptors.CallerFrom(ctx).ID(), "error", err)
	var (
		path  *fs.PathError
		link  *os.LinkError
		errno syscall.Errno
	)
	if errors.As(err, &path) || errors.As(err, &link) || errors.As(err, &errno) {
		return status.Error(codes.Unavailable, "the authority cannot do this at present; its log says why")
	}
	return interceptors.InvalidField(field, err.Error())
}

func issuerMessage(s pki.IssuerStatus) *authorityv1.Issuer {
	message := &authorityv1.Issuer{Generation: int32(s.Generation), Subject: s.Subject, State: issuerStates[s.State],
		PrepareNext: timestamppb.New(s.PrepareNext), NotAfter: timestamppb.New(s.NotAfter), KeySha256: s.KeySHA256[:]}
	if !s.ActiveFrom.IsZero() { // else: with the activation of its root
		message.ActiveFrom = timestamppb.New(s.ActiveFrom)
	}
	if s.RootSHA256 != (pki.Digest{}) { // else: its root has left the bundle
		message.RootSha256 = s.RootSHA256[:]
	}
	return message
}

// actReason says what is to be done, and how.
func actReason(act pki.ActBy) string {
	if act.Command == "" {
		return act.Reason
	}
	return act.Reason + ": " + act.Command
}

// certificate parses one certificate in DER that an operator sent.
func certificate(der []byte) (*x509.Certificate, error) {
	if len(der) > maxCertificate {
		return nil, fmt.Errorf("%d bytes: %d at most are read", len(der), maxCertificate)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("not a certificate in DER: %w", err)
	}
	return cert, nil
}
