package authority

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	authorityv1 "example.com/rolecall/gen/authority/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/pki"
)

// IssueCertificate signs one certificate for a CSR, if the caller is entitled to the names in it.
func (a *Authority) IssueCertificate(ctx context.Context, req *authorityv1.IssueCertificateRequest) (*authorityv1.IssueCertificateResponse, error) {
	caller := interceptors.CallerFrom(ctx)
	if err := a.checkCaller(ctx, caller); err != nil {
		return nil, a.refused(ctx, caller, "", err)
	}
	request, err := pki.ReadCSR(req.GetCsr(), a.issuers.TrustDomain())
	if err != nil {
		return nil, a.refused(ctx, caller, "", interceptors.InvalidField("csr", err.Error()))
	}
	entitled, err := a.entitle(caller, request.ID, "csr")
	switch {
	case err != nil:
	case entitled == nil:
		err = checkRenewal(ctx, request)
		if err == nil && !a.renewals.take(request.ID, time.Now()) {
			err = tooOften()
		}
	default:
		err = entitled.checkNames(request)
	}
	if err != nil {
		return nil, a.refused(ctx, caller, request.ID.String(), err)
	}
	chain, err := a.sign(ctx, caller, request)
	if err != nil {
		return nil, err
	}
	bundle := a.current.Load().bundle
	return &authorityv1.IssueCertificateResponse{
		Chain: raw(chain), NotAfter: timestamppb.New(chain[0].NotAfter),
		Roots: bundle.GetRoots(), BundleSequence: bundle.GetSequence(),
	}, nil
}

// sign issues what has been decided on. The record of the certificate is on disk before it leaves.
func (a *Authority) sign(ctx context.Context, caller interceptors.Caller, request *pki.Request) ([]*x509.Certificate, error) {
	chain, err := a.issuers.Issue(pki.Leaf{ID: request.ID, DNSNames: request.DNSNames, IPAddresses: request.IPAddresses,
		PublicKey: request.PublicKey, Life: a.life, Requester: caller.ID().String()})
	if err != nil {
		a.counts.failed.Add(1)
		a.log.ErrorContext(ctx, "certificate not signed", "requester", caller.ID(), "id", request.ID, "error", err)
		return nil, status.Error(codes.Unavailable, "the authority cannot sign at present; its log says why")
	}
	a.counts.issued.Add(1)
	a.log.InfoContext(ctx, "certificate signed", "requester", caller.ID(), "id", request.ID,
		"serial", fmt.Sprintf("%x", chain[0].SerialNumber), "not_after", chain[0].NotAfter)
	return chain, nil
}

// refused counts what is not signed, and puts it on the audit record. Nothing of the request is written but the identity, once
// it was read, and what was wrong. A caller who may not ask at all is on record already.
func (a *Authority) refused(ctx context.Context, caller interceptors.Caller, id string, err error) error {
	a.counts.refused.Add(1)
	if status.Code(err) != codes.PermissionDenied {
		caller.Denied("CERTIFICATE_REFUSED", id+": "+status.Convert(err).Message())
	}
	a.log.WarnContext(ctx, "certificate refused", "requester", caller.ID(), "id", id, "error", err)
	return err
}

func raw(certs []*x509.Certificate) [][]byte {
	der := make([][]byte, len(certs))
	for i, cert := range certs {
		der[i] = cert.Raw
	}
	return der
}
