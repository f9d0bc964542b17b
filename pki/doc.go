// Package pki is the private certificate authority of one trust domain: a root whose key is encrypted and rarely used,
// short-lived issuers that it signs, and the leaf certificates (X509-SVIDs) of workloads that the issuers sign.
//
//	ca, err := pki.OpenOrCreate(dir, pki.Config{TrustDomain: td})        // root at hand, as in `rolecall up`
//	err = ca.Rotate()                                                    // makes the next issuer when it is due
//	issuers, err := pki.OpenIssuers(dir+"/authority", nil)               // the online half: no root key in sight
//	req, err := pki.ReadCSR(der, td)                                     // the gate: a key and names, or the reason
//	chain, err := issuers.Issue(pki.Leaf{ID: req.ID, PublicKey: req.PublicKey})
//
// A certificate authority lies in one directory, which splits where an offline root would be carried away:
//
//	root/root.crt  root/root.key  root/passphrase     the passphrase file only in development
//	authority/bundle.pem                              the roots, and nothing but roots
//	authority/credential                              opens the keys of the issuers
//	authority/issuers/0001.pem                        certificate and encrypted key of one generation
//
// The package decides what a certificate may look like and refuses everything else with the reason. It does not decide
// who may have which certificate (services/authority does), does not serve them (pki/agent does), and keeps no record.
package pki
