// Package agent serves the SPIFFE Workload API over a Unix socket: it gives each process the certificates of the
// workload that it is, and new ones before they expire, without the process proving anything but who it is to the
// kernel.
//
//	server, err := agent.New(agent.Config{TrustDomain: td, Bundle: bundle, Signer: signer, Socket: path, Control: control})
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
// Keys of leaves are made here and live in memory only. The package signs nothing: it is given a Signer, which is the
// authority over mutual TLS. Of the Workload API it serves the X.509 profile; other methods answer Unimplemented.
package agent
