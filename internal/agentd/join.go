package agentd

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	authorityv1 "example.com/rolecall/gen/authority/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/pki"
)

// joinTimeout is how long Join waits for the authority.
const joinTimeout = 30 * time.Second

// JoinConfig says how the agent of another machine gets its first certificate. All fields but TrustDomain and Log are needed.
type JoinConfig struct {
	// TrustDomain is the one that the ticket must be of; zero: any.
	TrustDomain spiffeid.TrustDomain
	// Ticket is the file that 'rolecall pki ticket NAME' wrote.
	Ticket string
	// Authority is a gRPC target; AuthorityID the SPIFFE ID that the server there must have.
	Authority   string
	AuthorityID spiffeid.ID
	// Credential and Bundle are where the certificate with its key, and the roots, are written.
	Credential, Bundle string
	// Log takes the operational log. nil: slog.Default().
	Log *slog.Logger
}

// Join turns a ticket into the first certificate of this machine's agent: a key made here is signed for /agent/NAME, once
// for each ticket. With a usable certificate at hand it does nothing and says false. A ticket that was used, or has expired,
// is an error that says what to do next. If the answer was lost, Join may be called again with the same ticket: the key
// waits in a file beside the credential.
func Join(ctx context.Context, cfg JoinConfig) (joined bool, err error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if usable, err := joinedBefore(cfg); usable || err != nil {
		if usable { // a start that was cut off may have left it: the key of a certificate that is in its place by now
			cfg.forgetKey()
		}
		return false, err
	}
	ticket, roots, err := pki.ReadTicket(cfg.Ticket)
	if err != nil {
		return false, fmt.Errorf("join: %w", err)
	}
	id, err := agentOf(ticket, cfg)
	if err != nil {
		return false, fmt.Errorf("join: %w", err)
	}
	key, err := joiningKey(cfg.Credential + ".joining")
	if err != nil {
		return false, fmt.Errorf("join: %w", err)
	}
	chain, bundle, err := redeem(ctx, cfg, ticketSource{ticket, roots}, id, key)
	if err != nil {
		return false, fmt.Errorf("join as %s: %w", id, err)
	}
	// The bundle first: with the credential the agent has joined.
	if err := pki.WriteBundle(cfg.Bundle, bundle); err != nil {
		return false, fmt.Errorf("join: %w", err)
	}
	if err := pki.WriteCredential(cfg.Credential, chain, key); err != nil {
		return false, fmt.Errorf("join: %w", err)
	}
	cfg.forgetKey()
	cfg.Log.Info("joined", "id", id, "not_after", chain[0].NotAfter, "credential", cfg.Credential, "bundle", cfg.Bundle)
	return true, nil
}

// forgetKey removes the key that waited for its certificate.
func (cfg JoinConfig) forgetKey() {
	if err := os.Remove(cfg.Credential + ".joining"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		cfg.Log.Warn("the file of the key that waited for its certificate stays; remove it", "error", err)
	}
}

// joinedBefore tells whether there is a certificate already that the agent can start with.
func joinedBefore(cfg JoinConfig) (bool, error) {
	svid, err := pki.ReadCredential(cfg.Credential)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("join: a credential is there already, and cannot be used; look at it, and remove it to join anew: %w", err)
	case !cfg.TrustDomain.IsZero() && svid.ID.TrustDomain() != cfg.TrustDomain:
		return false, fmt.Errorf("join: %s is a credential of %s; remove it to join anew", cfg.Credential, svid.ID)
	case !time.Now().Before(svid.Certificates[0].NotAfter):
		cfg.Log.Info("the certificate at hand has expired; joining anew", "id", svid.ID, "not_after", svid.Certificates[0].NotAfter)
		return false, nil
	}
	if _, err := pki.ReadBundle(cfg.Bundle); err != nil {
		cfg.Log.Info("the certificate at hand has no bundle; joining anew", "id", svid.ID, "error", err)
		return false, nil
	}
	if time.Now().Before(svid.Certificates[0].NotBefore) {
		cfg.Log.Warn("the certificate at hand starts in the future: set the clock of this machine, or, if it was ahead and is right now, remove the file and join anew",
			"path", cfg.Credential, "not_before", svid.Certificates[0].NotBefore)
		return true, nil
	}
	cfg.Log.Info("joined before: the certificate at hand is good, and the ticket is not used", "id", svid.ID, "not_after", svid.Certificates[0].NotAfter)
	return true, nil
}

// agentOf returns whom the ticket is for: /agent/NAME for NAME under pki.JoinPath.
func agentOf(ticket *x509svid.SVID, cfg JoinConfig) (spiffeid.ID, error) {
	td := ticket.ID.TrustDomain()
	name, ok := strings.CutPrefix(ticket.ID.Path(), pki.JoinPath)
	if !ok || name == "" || strings.Contains(name, "/") {
		return spiffeid.ID{}, fmt.Errorf("%s holds %s, which is no join ticket", cfg.Ticket, ticket.ID)
	}
	if !cfg.TrustDomain.IsZero() && td != cfg.TrustDomain {
		return spiffeid.ID{}, fmt.Errorf("the ticket is of the trust domain %s, not of %s", td, cfg.TrustDomain)
	}
	if cfg.AuthorityID.TrustDomain() != td {
		return spiffeid.ID{}, fmt.Errorf("the ticket is of the trust domain %s, the authority %s is not", td, cfg.AuthorityID)
	}
	if leaf := ticket.Certificates[0]; !time.Now().Before(leaf.NotAfter) {
		return spiffeid.ID{}, fmt.Errorf("the ticket expired at %s; make another one: rolecall pki ticket %s (or, if it is fresh, set the clock of this machine)",
			leaf.NotAfter.Format(time.RFC3339), name)
	}
	return spiffeid.FromPath(td, pki.AgentPath+name)
}

// ticketSource is a ticket as an interceptors.Source.
type ticketSource struct {
	svid *x509svid.SVID
	*x509bundle.Bundle
}

// GetX509SVID returns the ticket.
func (t ticketSource) GetX509SVID() (*x509svid.SVID, error) { return t.svid, nil }

// redeem asks the authority for the certificate and checks what it says.
func redeem(ctx context.Context, cfg JoinConfig, ticket ticketSource, id spiffeid.ID, key crypto.Signer) ([]*x509.Certificate, *x509bundle.Bundle, error) {
	guard, err := interceptors.New(ticket, nil, interceptors.Logger(cfg.Log))
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = guard.Close() }()
	conn, err := guard.NewClient(cfg.Authority, cfg.AuthorityID, grpc.WithConnectParams(reconnect))
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = conn.Close() }()
	csr, err := pki.NewCSR(key, id, nil, nil)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	response, err := authorityv1.NewAuthorityServiceClient(conn).Join(ctx, &authorityv1.JoinRequest{Csr: csr}, grpc.WaitForReady(true))
	if err != nil {
		return nil, nil, explain(err, strings.TrimPrefix(id.Path(), pki.AgentPath))
	}
	chain, err := parse(response.GetChain())
	if err != nil {
		return nil, nil, fmt.Errorf("chain of the authority: %w", err)
	}
	bundle, err := parseRoots(response.GetBundle().GetRoots(), id.TrustDomain())
	if err != nil {
		return nil, nil, err
	}
	fresh, err := newSVID(chain, key)
	if err != nil {
		return nil, nil, fmt.Errorf("chain of the authority: %w", err)
	}
	if fresh.ID != id {
		return nil, nil, fmt.Errorf("the authority answered with a certificate of %s", fresh.ID)
	}
	if _, _, err := x509svid.Verify(chain, bundle); err != nil {
		return nil, nil, fmt.Errorf("the authority answered with a certificate that is of no use: %w", err)
	}
	return chain, bundle, nil
}

// explain adds to a refusal what the operator does next.
func explain(err error, name string) error {
	switch status.Code(err) {
	case codes.DeadlineExceeded, codes.Unavailable:
		return fmt.Errorf("the authority cannot be reached, or this machine and it do not trust each other; the ticket is not used up, try again while it is fresh: %w", err)
	case codes.InvalidArgument, codes.FailedPrecondition, codes.AlreadyExists, codes.PermissionDenied, codes.Unauthenticated:
		return fmt.Errorf("the authority refused the ticket; each is good once and for a few minutes. If it was not you who used it, find out who did. Make another one: rolecall pki ticket %s: %w", name, err)
	}
	return err
}

// joiningKey returns the key that waits for its certificate, a new one if there is none: the authority binds a ticket to
// the first key that comes, so an answer that was lost can only be had again with the same key.
func joiningKey(path string) (crypto.Signer, error) {
	data, err := readAtMost(path, 64<<10)
	if errors.Is(err, fs.ErrNotExist) {
		key, err := pki.NewKey()
		if err != nil {
			return nil, err
		}
		return key, pki.WriteCredential(path, nil, key)
	}
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); runtime.GOOS != "windows" && mode&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %04o, which lets others at the key; remove it and try again", path, mode)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("%s holds no key; remove it and try again", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := parsed.(*ecdsa.PrivateKey)
	if err != nil || !ok {
		return nil, fmt.Errorf("%s holds no ECDSA key; remove it and try again", path)
	}
	return key, nil
}
