// Package supervisor keeps processes running: each in a process group of its own, started again with growing pauses when it
// ends by itself, stopped in good order, and never left behind, not even when the supervisor is killed.
//
//	s := supervisor.New(func(e supervisor.Event) { show(e) })
//	task := s.Start(supervisor.Program{Name: "ledger", Path: exe, Args: args, Log: log, Ready: serving})
//	err := task.WaitReady(ctx)
//	...
//	task.Stop(15 * time.Second)
//	s.Close()
//
// A supervised process waits at a gate until it was admitted: it calls Attach before anything else. What admission means
// (an agent is told which identity the process has) is the business of Program.Admit.
//
// Three things end a process whose supervisor is gone, each where the others do not reach: the parent-death signal on Linux,
// the end of its standard input, which Attach watches on every system, and a broken pipe when it next writes to its log.
package supervisor
