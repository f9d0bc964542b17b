// Package agent serves the SPIFFE Workload API over a Unix socket: it gives each process the certificates of the
// workload that it is, and new ones before they expire, without the process proving anything but who it is to the
// kernel.
//
//	server, err := agent.New(agent.Config{TrustDomain: td, Bundle: bundle, Signer: signer, JWT: signer, Socket: path, Control: control})
//	err = server.Serve(ctx)
//
// A process is known by one of two ways. The supervisor that started it (or `rolecall run`) registers its pid and start
// time over the control socket; the registration holds for the process and its descendants, for as long as that
// connection is open. A later process with the same pid is not taken for it: start times tell the two apart unless they
// are in the same hundredth of a second, and a handle of the process (pidfd, Linux 5.3) does always:
//
//	registered, err := agent.Register(ctx, control, agent.Registration{ID: id, PID: cmd.Process.Pid})
//	defer registered.Close()
//
// Or an entry names selectors in SPIRE's syntax (unix:uid:1000, unix:path:/usr/bin/x, unix:sha256:...) that all hold.
// Whatever the peer says of itself counts for nothing. A process of another user gets nothing unless an entry matches.
//
// Keys of leaves are made here and live in memory only. The package signs nothing: it is given a Signer and a JWTSigner,
// which are the authority over mutual TLS. It follows no files and no other machine: entries, bundles, federated bundles
// and revoked issuers are set by whoever does (SetEntries, SetBundle, SetJWTBundle, SetFederated, SetRevokedIssuers), and
// HandedOut says which bundle went to whom. Of the Workload API it serves the X.509 and the JWT profile; the WIT profile
// answers Unimplemented.
//
// The way of a change to a stream: the change is told to the subjects that it concerns (subject.go), one for each process
// with streams; the process is attested anew, once (attest.go); each of its streams composes its message, the same one for
// all, and sends it if it says something new (follow.go). A client that does not read holds up its own stream, and after a
// minute loses its connection.
package agent
