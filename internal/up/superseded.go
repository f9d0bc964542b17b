package up

import (
	"crypto/x509"

	"example.com/rolecall/pki"
)

// superseded tells whether a chain is to be replaced before its time: another issuer signs now, and its own was revoked, or
// is of a root that is on its way out or has left.
func superseded(issuers *pki.Issuers, chain []*x509.Certificate) bool {
	own, active := issuerOf(issuers, chain)
	return own != nil && active != nil && own.Generation != active.Generation &&
		(own.State == pki.Revoked || own.RootSHA256 != active.RootSHA256)
}

// worthless tells whether the issuer of a chain was revoked, and another one signs.
func worthless(issuers *pki.Issuers, chain []*x509.Certificate) bool {
	own, active := issuerOf(issuers, chain)
	return own != nil && active != nil && own.State == pki.Revoked
}

// issuerOf returns the issuer of a chain and the one that signs now, each nil if there is none.
func issuerOf(issuers *pki.Issuers, chain []*x509.Certificate) (own, active *pki.IssuerStatus) {
	if len(chain) < 2 {
		return nil, nil
	}
	for _, i := range issuers.Status() {
		if i.State == pki.Active {
			active = &i
		}
		if i.Certificate.Equal(chain[1]) {
			own = &i
		}
	}
	return own, active
}
