// Package rootrotation replaces the root of a trust domain without a dropped call, in three steps of which each can be
// repeated until it is done:
//
//	prepare    the new root joins the bundle, and the old one signs a cross certificate over the new one's key
//	activate   an issuer of the new root signs; chains carry the cross certificate, so that a verifier that knows only the
//	           old root still verifies them
//	retire     the old root leaves the bundle, once nobody needs it any more
//
// Retire is the step that can hurt, and the Workload API has no acknowledgement. So Examine asks: the authority, what each
// agent has handed to whom and which certificates have not expired; every service, which roots it verifies its peers with;
// and it calls each service with a certificate that only somebody who trusts the new root accepts, trusting nothing but
// the new root itself. Whatever is not proven stands in the way, by name.
//
//	proposal, err := rootrotation.Propose(oldRoot, newRoot)
//	err = rootrotation.Prepare(issuers, proposal)
//	err = rootrotation.Activate(issuers, newRoot)
//	found, err := rootrotation.Examine(ctx, issuers, mesh, time.Now())
//	err = rootrotation.Retire(issuers, found)                  // *UnsafeError names who is missing
//
// What lies on disk is package pki's: this one decides whether a step may be taken.
package rootrotation
