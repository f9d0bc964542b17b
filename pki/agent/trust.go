package agent

import (
	"crypto/x509"
	"fmt"
	"maps"

	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/pki"
)

// trust is what workloads verify others with, encoded once for all streams. Immutable; replaced as a whole.
type trust struct {
	domain spiffeid.TrustDomain
	roots  []byte   // DER, one after the other
	digest [32]byte // pki.BundleDigest of the roots
	jwt    *jwtbundle.Bundle
	keys   []byte // of JWT-SVIDs, a JWK set; nil until they are known

	federated     map[spiffeid.TrustDomain]*spiffebundle.Bundle
	federatedX509 map[string][]byte // by the SPIFFE ID of the trust domain
	federatedJWT  map[string][]byte
}

// GetJWTBundleForTrustDomain returns the keys of JWT-SVIDs of the own trust domain or a federated one.
func (t *trust) GetJWTBundleForTrustDomain(td spiffeid.TrustDomain) (*jwtbundle.Bundle, error) {
	if td == t.domain && t.jwt != nil {
		return t.jwt, nil
	}
	if foreign, ok := t.federated[td]; ok && td != t.domain {
		return foreign.JWTBundle(), nil
	}
	return nil, fmt.Errorf("no keys of JWT-SVIDs of %s are known", td)
}

// SetBundle replaces the roots; every stream of certificates and bundles is told if they differ. Another order is no
// difference. A bundle of another trust domain is refused with a line in the log.
func (s *Server) SetBundle(bundle *x509bundle.Bundle) {
	if bundle.TrustDomain() != s.config.TrustDomain {
		s.log.Error("a bundle of another trust domain was refused as the own one", "trust_domain", bundle.TrustDomain())
		return
	}
	roots := bundle.X509Authorities()
	digest := pki.BundleDigest(roots)
	s.setTrust(func(t *trust) bool {
		if t.roots != nil && t.digest == digest {
			return false
		}
		t.roots, t.digest = concatenate(roots), digest
		return true
	}, svidStream, bundleStream)
}

// SetJWTBundle replaces the keys of JWT-SVIDs of the own trust domain; streams of JWT bundles are told if they differ.
func (s *Server) SetJWTBundle(bundle *jwtbundle.Bundle) {
	if bundle.TrustDomain() != s.config.TrustDomain {
		s.log.Error("a JWT bundle of another trust domain was refused as the own one", "trust_domain", bundle.TrustDomain())
		return
	}
	s.setTrust(func(t *trust) bool {
		if t.jwt.Equal(bundle) {
			return false
		}
		keys, err := bundle.Marshal()
		if err != nil {
			s.log.Error("the keys of JWT-SVIDs cannot be written as a JWK set", "error", err)
			return false
		}
		t.jwt, t.keys = bundle.Clone(), keys
		return true
	}, jwtStream)
}

// SetFederated replaces the bundles of other trust domains, which every workload is given beside its own; streams are told
// if they differ. One of the own trust domain is left out, with a line in the log.
func (s *Server) SetFederated(bundles []*spiffebundle.Bundle) {
	next := map[spiffeid.TrustDomain]*spiffebundle.Bundle{}
	for _, bundle := range bundles {
		if bundle.TrustDomain() == s.config.TrustDomain {
			s.log.Error("a federated bundle claims to be of the own trust domain and was refused", "trust_domain", bundle.TrustDomain())
			continue
		}
		next[bundle.TrustDomain()] = bundle.Clone()
	}
	s.setTrust(func(t *trust) bool {
		if maps.EqualFunc(t.federated, next, (*spiffebundle.Bundle).Equal) {
			return false
		}
		t.federated, t.federatedX509, t.federatedJWT = next, map[string][]byte{}, map[string][]byte{}
		for td, bundle := range next {
			if roots := bundle.X509Authorities(); len(roots) > 0 {
				t.federatedX509[td.IDString()] = concatenate(roots)
			}
			if keys, err := bundle.JWTBundle().Marshal(); err == nil && len(bundle.JWTAuthorities()) > 0 {
				t.federatedJWT[td.IDString()] = keys
			}
		}
		return true
	}, svidStream, bundleStream, jwtStream)
}

// setTrust lets change look at a copy of what is trusted, and tells streams of these kinds if it says that it changed it.
func (s *Server) setTrust(change func(*trust) bool, kinds ...kind) {
	s.trusting.Lock()
	next := *s.trust.Load()
	changed := change(&next)
	if changed {
		before := s.trust.Swap(&next)
		if before.jwt != next.jwt {
			s.tokens.forget() // after the keys are in force: whoever asks from now on gets a token of the new ones
		}
	}
	s.trusting.Unlock()
	if changed {
		s.subjects.wakeKinds(kinds...)
		s.handed.touch()
	}
}

func concatenate(certs []*x509.Certificate) []byte {
	var der []byte
	for _, cert := range certs {
		der = append(der, cert.Raw...)
	}
	return der
}
