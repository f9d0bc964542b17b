// Package pki is the private certificate authority of one trust domain: a root whose key is encrypted and rarely used,
// short-lived issuers that it signs, and the leaf certificates (X509-SVIDs) and tokens (JWT-SVIDs) of workloads.
//
//	ca, err := pki.OpenOrCreate(dir, pki.Config{TrustDomain: td})        // root at hand, as in `rolecall up`
//	err = ca.Rotate()                                                    // makes the next issuer when it is due
//	issuers, err := pki.OpenIssuers(dir+"/authority", nil)               // the online half: no root key in sight
//	req, err := pki.ReadCSR(der, td)                                     // the gate: a key and names, or the reason
//	chain, err := issuers.Issue(pki.Leaf{ID: req.ID, PublicKey: req.PublicKey})
//
// Where the root is elsewhere, the next issuer is asked for, carried, and brought back:
//
//	csr, generation, err := issuers.RequestIssuer()                      // the key stays here
//	cert, err := root.SignIssuerCSR(csr, 0)                              // on the root's machine
//	status, err := issuers.ImportIssuer(cert)
//
// A certificate authority lies in one directory, which splits where an offline root would be carried away:
//
//	root/root.crt  root/root.key  root/passphrase     the passphrase file only in development
//	root-next/                                        the same of a root that is about to take over
//	authority/bundle.pem                              the roots, and nothing but roots
//	authority/credential                              opens the keys of the issuers; may lie elsewhere
//	authority/issuers/0001.pem                        certificate and encrypted key of one generation
//	authority/issuers/0002.request.pem                encrypted key and CSR of one that was asked for
//	authority/cross.pem                               the new root, signed by the old, while a root is being replaced
//	authority/state.json                              what somebody decided: issuers activated and revoked, rotation, bundle number
//	authority/lock                                    held by whoever changes any of this
//	authority/jwt/0001.pem                            keys of JWT-SVIDs
//	authority/record/2026-11-22.jsonl                 every certificate that was issued
//
// Everything else follows from these files and the wall clock, so that all processes that have the directory open agree.
// Those who change it take turns by the lock; each change is several writes in an order in which the directory can be read
// after every one of them, and the same call again completes it. Readers take no lock.
//
// A root is replaced by PrepareRoot, ActivateRoot and RetireRoot. They keep the facts straight; whether every verifier knows
// the new root before the old one goes is for the caller to find out.
//
// The package decides what a certificate may look like and refuses everything else with the reason. It does not decide
// who may have which certificate (services/authority does) and does not serve them (pki/agent does).
package pki
