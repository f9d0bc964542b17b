package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	authorityv1 "example.com/rolecall/gen/authority/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/pki"
	"example.com/rolecall/services/authority"
)

// signTurn is how long each side signs before it is the other's turn: a certificate takes as long as many calls.
const signTurn = 100 * time.Millisecond

// measureIssuance compares how fast certificates come out of the authority, with its checks and its record on disk, and
// out of the least that signs at all: a gRPC handler around the standard library that keeps nothing.
func measureIssuance(length time.Duration) ([]row, error) {
	var rows []row
	for _, callers := range []int{1, 8} {
		c, err := compareOver(func(conn *grpc.ClientConn, until time.Time) (int, error) { return ask(conn, callers, until) },
			signTurn, length, (*workloads).bareIssuer, func(*workloads) (*place, error) { return recordingAuthority() })
		if err != nil {
			return nil, fmt.Errorf("%d callers: %w", callers, err)
		}
		name := "one caller"
		if callers > 1 {
			name = fmt.Sprintf("%d callers", callers)
		}
		rows = append(rows,
			ratioRow("certificates, "+name, c, rate, perSecond, target{}),
			ratioRow("CPU of a certificate, "+name, c, cpu, duration, target{}),
			differenceRow("allocations of a certificate, "+name, c, allocs, count, target{}))
	}
	return rows, nil
}

// ask asks for certificates of a workload, as agents do, until the time is up. The key and the CSR are made once: what
// a client does before it asks is not measured.
func ask(conn *grpc.ClientConn, callers int, until time.Time) (int, error) {
	key, err := pki.NewKey()
	if err != nil {
		return 0, err
	}
	csr, err := pki.NewCSR(key, spiffeid.RequireFromString("spiffe://mesh.local/service/billing"), nil, nil)
	if err != nil {
		return 0, err
	}
	client, request := authorityv1.NewAuthorityServiceClient(conn), &authorityv1.IssueCertificateRequest{Csr: csr}
	return repeat(callers, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
		defer cancel()
		response, err := client.IssueCertificate(ctx, request)
		if err == nil && len(response.GetChain()) != 2 {
			err = fmt.Errorf("a chain of %d certificates, want 2", len(response.GetChain()))
		}
		return err
	}, until)
}

// bareIssuer is bare TLS and a handler that parses the CSR, checks its signature and signs.
func (w *workloads) bareIssuer() (*place, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return w.bareOf(func(r grpc.ServiceRegistrar) {
		authorityv1.RegisterAuthorityServiceServer(r, &plainIssuer{cert: cert, key: key})
	})
}

// plainIssuer is the standard library behind gRPC.
type plainIssuer struct {
	authorityv1.UnimplementedAuthorityServiceServer
	cert *x509.Certificate
	key  crypto.Signer
}

func (p *plainIssuer) IssueCertificate(_ context.Context, req *authorityv1.IssueCertificateRequest) (*authorityv1.IssueCertificateResponse, error) {
	csr, err := x509.ParseCertificateRequest(req.GetCsr())
	if err == nil {
		err = csr.CheckSignature()
	}
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	now := time.Now()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 128))
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	leaf, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial, NotBefore: now, NotAfter: now.Add(24 * time.Hour), URIs: csr.URIs, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, p.cert, csr.PublicKey, p.key)
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &authorityv1.IssueCertificateResponse{Chain: [][]byte{leaf, p.cert.Raw}, NotAfter: timestamppb.New(now.Add(24 * time.Hour)),
		Roots: [][]byte{p.cert.Raw}}, nil
}

// recordingAuthority is the service as it is run, on a certificate authority of its own, with a log that goes nowhere.
func recordingAuthority() (_ *place, err error) {
	dir, err := os.MkdirTemp("", "rolecall-bench-")
	if err != nil {
		return nil, err
	}
	opened := closers{func() error { return os.RemoveAll(dir) }}
	defer func() {
		if err != nil {
			err = errors.Join(err, opened.close())
		}
	}()
	ca, _, err := pki.OpenOrCreate(dir, pki.Config{TrustDomain: spiffeid.RequireTrustDomainFromString("mesh.local")})
	if err != nil {
		return nil, err
	}
	service, err := authority.Open(authority.Config{Dir: filepath.Join(dir, pki.AuthorityDir), Log: slog.New(slog.NewJSONHandler(io.Discard, nil))})
	if err != nil {
		return nil, err
	}
	roles := filepath.Join(dir, "roles.yaml")
	if err := os.WriteFile(roles, []byte("trustDomain: mesh.local\nbindings:\n  - role: authority.requester\n    members: [spiffe://mesh.local"+clientPath+"]\n"), 0o600); err != nil {
		return nil, err
	}
	serving, err := interceptors.New(service.Source(), interceptors.BindingsFile(roles))
	if err != nil {
		return nil, err
	}
	opened = append(opened, serving.Close)
	own, err := pki.NewSource(ca.Issuers(), pki.Leaf{ID: spiffeid.RequireFromString("spiffe://mesh.local" + clientPath)})
	if err != nil {
		return nil, err
	}
	calling, err := interceptors.New(own, nil)
	if err != nil {
		return nil, err
	}
	opened = append(opened, calling.Close)
	address, stop, err := serve(serving.NewServer(), func(r grpc.ServiceRegistrar) { authorityv1.RegisterAuthorityServiceServer(r, service) })
	if err != nil {
		return nil, err
	}
	opened = append(opened, stop)
	return &place{
		address: address,
		dial: func() (*grpc.ClientConn, error) {
			return calling.NewClient(address, spiffeid.RequireFromString("spiffe://mesh.local/service/authority"))
		},
		close: func() error { return opened.close() },
	}, nil
}
