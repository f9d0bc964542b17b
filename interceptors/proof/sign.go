package proof

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	rolecallv1 "example.com/rolecall/gen/rolecall/v1"
	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/interceptors/internal/identity"
	"example.com/rolecall/interceptors/internal/jws"
)

// credential is a certificate of the own workload, made ready to sign with. Immutable.
type credential struct {
	id        spiffeid.ID
	leaf      []byte // DER
	notBefore time.Time
	notAfter  time.Time
	signer    *jws.Signer
}

// newCredential takes a certificate whose key can sign proofs: P-256, the only one of ES256.
func newCredential(leaf *x509.Certificate, key crypto.PrivateKey) (*credential, error) {
	id, err := x509svid.IDFromCert(leaf)
	if err != nil {
		return nil, fmt.Errorf("the own certificate: %w", err)
	}
	signer, err := newSigner(key)
	if err != nil {
		return nil, fmt.Errorf("the key of the certificate of %s cannot sign proofs: %w", id, err)
	}
	return &credential{id, leaf.Raw, leaf.NotBefore, leaf.NotAfter, signer}, nil
}

func newSigner(key crypto.PrivateKey) (*jws.Signer, error) {
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a %T does not sign", key)
	}
	public, ok := signer.Public().(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("a %T, ECDSA on P-256 is needed", signer.Public())
	}
	kid, err := jws.Thumbprint(public)
	if err != nil {
		return nil, err
	}
	return jws.NewSigner(kid, signer)
}

// present returns the certificate that the source has now. Safe for concurrent use.
type present struct {
	source x509svid.Source
	last   atomic.Pointer[credential]
}

func (p *present) get() (*credential, error) {
	svid, err := p.source.GetX509SVID()
	if err != nil {
		return nil, fmt.Errorf("read the own certificate: %w", err)
	}
	if last := p.last.Load(); last != nil && bytes.Equal(last.leaf, svid.Certificates[0].Raw) {
		return last, nil
	}
	c, err := newCredential(svid.Certificates[0], svid.PrivateKey)
	if err == nil {
		p.last.Store(c)
	}
	return c, err
}

// shownCredential is a certificate as connections have shown it, and made ready to sign with. Immutable.
type shownCredential struct {
	certificate *tls.Certificate
	*credential
}

// credentialShown returns what to sign with where another has seen this certificate.
func (p *proofs) credentialShown(shown *tls.Certificate) (*credential, error) {
	if c, err := p.own.get(); err == nil && bytes.Equal(shown.Certificate[0], c.leaf) {
		return c, nil
	}
	if last := p.shown.Load(); last != nil && last.certificate == shown {
		return last.credential, nil
	}
	made, err := newCredential(shown.Leaf, shown.PrivateKey)
	if err == nil {
		p.shown.Store(&shownCredential{shown, made})
	}
	return made, err
}

// credentialOn returns what to sign with on a connection of the own workload's.
func (p *proofs) credentialOn(conn *identity.Conn) (*credential, error) {
	if conn == nil || conn.Shown == nil {
		return p.own.get()
	}
	return p.credentialShown(conn.Shown)
}

// statement is what a request is, before somebody signs it.
type statement struct {
	server   spiffeid.ID
	method   string
	body     []byte
	narrowed []string // values of rolecall-role-subset; nil: none came
	token    string   // an access token; empty: none
	via      string   // who may pass it on; empty: whoever holds the role
	names    []string // of metadata that is covered
	metadata string   // its digest
}

// cover has the statement be about the metadata of a call.
func (s *statement) cover(md metadata.MD) {
	s.narrowed, s.names, s.metadata = md.Get(feature.SubsetKey), covered(md), ""
	s.token, _ = feature.Bearer(md.Get(feature.TokenKey)) // what no server takes for a token is none
	if len(s.names) > 0 {
		s.metadata = digest(s.names, md)
	}
}

// made is a proof and what must come back for it.
type made struct {
	text   string
	claims claims
}

// sign makes a proof of a statement.
func (s *statement) sign(c *credential, now time.Time, life time.Duration) (*made, error) {
	var nonce [16]byte
	_, _ = rand.Read(nonce[:]) // never fails
	m := &made{claims: claims{
		Issuer: c.id.String(), Audience: s.server.String(), Method: s.method, Body: hash(s.body),
		Nonce: encoding.EncodeToString(nonce[:]), Issued: now.Unix(), Expires: now.Add(life).Unix(),
		Roles: s.narrowed, Via: s.via, Names: s.names, Metadata: s.metadata,
	}}
	if s.token != "" {
		m.claims.Token = hash(s.token)
	}
	var err error
	if m.text, err = c.signer.Sign(proofType, &m.claims); err != nil {
		return nil, err
	}
	if len(m.text) > feature.MaxProof {
		return nil, fmt.Errorf("a proof of %d bytes, %d at most: the call has too much metadata or too many roles to name", len(m.text), feature.MaxProof)
	}
	return m, nil
}

// Signer signs requests for others to pass on: those of its workload that another sends. Safe for concurrent use.
type Signer struct {
	choose func() (*credential, error)
	now    func() time.Time
}

// NewSigner makes a signer for a program without a guard, that uses the certificate which the source has at the time. Who
// verifies finds its key only once somebody has announced it to the key server: with a Feature, take Feature.Signer.
func NewSigner(source x509svid.Source) *Signer {
	p := &present{source: source}
	return &Signer{p.get, time.Now}
}

// Signer makes a signer that uses the key which the key server has acknowledged last. Before the first acknowledgement it signs
// with the present key, which verifiers do not find yet: wait for Announced first. Without a key server it uses the present key.
func (f *Feature) Signer() *Signer {
	return &Signer{func() (*credential, error) {
		p := f.running.Load()
		if p == nil {
			return nil, errNotStarted
		}
		return p.own.choose()
	}, func() time.Time {
		if p := f.running.Load(); p != nil {
			return p.env.Now()
		}
		return time.Now()
	}}
}

// SignOption changes what Sign says.
type SignOption func(*statement) error

// Narrowed gives up roles for the request, as interceptors.Narrow does for calls: the signer counts as holding only those of
// its roles that are named, or included in a named one; without names it has none.
func Narrowed(roles ...string) SignOption {
	return func(s *statement) error {
		s.narrowed = append(s.narrowed, strings.Join(roles, " "))
		return nil
	}
}

// Via has nobody pass the request on but the workload of this SPIFFE ID: the server refuses it from any other, the signer itself
// aside. Give it whenever it is known who the request is handed to: whoever else gets hold of it on the way can do nothing with
// it then, be it only to use it up.
func Via(relay spiffeid.ID) SignOption {
	return func(s *statement) error {
		if s.via = relay.String(); relay.Path() == "" {
			return fmt.Errorf("via %q: the SPIFFE ID of a workload is needed", relay)
		}
		return nil
	}
}

// Sign signs a request to a method of a server, "/ledger.v1.LedgerService/Transfer", that somebody else is to send within a
// minute. It goes along with no access token and covers no metadata.
func (s *Signer) Sign(server spiffeid.ID, request proto.Message, fullMethod string, opts ...SignOption) (*rolecallv1.SignedRequest, error) {
	if server.Path() == "" || !strings.HasPrefix(fullMethod, "/") || strings.Count(fullMethod, "/") != 2 {
		return nil, fmt.Errorf("proof: sign for %q of %q: the SPIFFE ID of a server and /package.Service/Method are needed", fullMethod, server)
	}
	body, err := proto.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("proof: marshal the request to sign: %w", err)
	}
	c, err := s.choose()
	if err != nil {
		return nil, fmt.Errorf("proof: %w", err)
	}
	statement := &statement{server: server, method: fullMethod, body: body}
	for _, opt := range opts {
		if err := opt(statement); err != nil {
			return nil, fmt.Errorf("proof: sign %s: %w", fullMethod, err)
		}
	}
	m, err := statement.sign(c, s.now(), maxLife)
	if err != nil {
		return nil, fmt.Errorf("proof: sign %s: %w", fullMethod, err)
	}
	return &rolecallv1.SignedRequest{Method: fullMethod, Request: body, Proof: m.text}, nil
}
