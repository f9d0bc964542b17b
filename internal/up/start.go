package up

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"example.com/rolecall/internal/catalog"
	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/health"
	"example.com/rolecall/internal/supervisor"
	"example.com/rolecall/pki/agent"
)

// agentName is the agent's name among the processes.
const agentName = "agent"

// start starts the authority, then the agent, then the rest together, and waits until all of them work.
func (r *run) start(ctx context.Context) error {
	ctx, cancel := withWait(ctx)
	defer cancel()
	services := catalog.Services()
	authority, rest := services[0], services[1:]
	if err := r.startService(authority); err != nil {
		return err
	}
	if err := r.await(ctx, authority.Name); err != nil {
		return err
	}
	if err := r.startAgent(); err != nil {
		return err
	}
	if err := r.await(ctx, agentName); err != nil {
		return err
	}
	for _, s := range rest {
		if err := r.startService(s); err != nil {
			return err
		}
	}
	errs := make([]error, len(rest))
	var waiting sync.WaitGroup
	for i, s := range rest {
		waiting.Go(func() { errs[i] = r.await(ctx, s.Name) })
	}
	waiting.Wait()
	return errors.Join(errs...)
}

func (r *run) startService(s catalog.Service) error {
	id := s.ID(r.plan.td)
	at := address(r.plan.ports[s.Name].service)
	p := supervisor.Program{
		Name: s.Name,
		Args: r.plan.serveArgs(s),
		Ready: func(ctx context.Context) error {
			return health.Wait(ctx, r.guard, "passthrough:///"+at, id)
		},
	}
	if s.Name != "authority" { // which signs its own certificate
		p.Admit = func(ctx context.Context, pid int) error {
			return r.admit(ctx, s.Name, agent.Registration{ID: id, PID: pid, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}})
		}
	}
	return r.launch(p)
}

func (r *run) startAgent() error {
	return r.launch(supervisor.Program{Name: agentName, Args: r.plan.agentArgs(), Ready: r.agentAnswers})
}

func (r *run) launch(p supervisor.Program) error {
	log, err := openLog(r.dir, p.Name)
	if err != nil {
		return err
	}
	p.Path, p.Env, p.Log = r.config.Executable, r.plan.environment(), log
	r.show(p.Name, cli.Working, "starting")
	r.mu.Lock()
	defer r.mu.Unlock()
	r.logs[p.Name] = log
	r.order = append(r.order, p.Name)
	r.tasks[p.Name] = r.sup.Start(p)
	return nil
}

// await waits until the process works; its error shows why the agent did not register it, and the end of the log.
func (r *run) await(ctx context.Context, name string) error {
	err := r.tasks[name].WaitReady(ctx)
	if err == nil {
		return nil
	}
	r.mu.Lock()
	refused := r.refused[name]
	r.mu.Unlock()
	if refused != nil {
		err = fmt.Errorf("%w: the agent does not register it: %w", err, refused)
	}
	r.show(name, cli.Failed, "failed")
	lines := r.logs[name].Tail(8)
	for i, line := range lines {
		lines[i] = "    " + cli.Clean(line)
	}
	text := "  the log is empty"
	if len(lines) > 0 {
		text = "  the end of " + r.dir.Log(name) + ":\n" + strings.Join(lines, "\n")
	}
	return fmt.Errorf("start %w\n%s", err, text)
}

// agentAnswers waits until the agent's control socket does.
func (r *run) agentAnswers(ctx context.Context) error {
	return retry(ctx, func() error {
		_, err := agent.List(ctx, r.plan.control)
		return err
	})
}

// admit tells the agent which identity a process has, and again whenever the agent was started again, until the process
// ends. It returns when the first registration stands.
func (r *run) admit(ctx context.Context, name string, reg agent.Registration) error {
	started, err := agent.StartTime(reg.PID)
	if err != nil {
		return err
	}
	reg.StartTime = started
	var first *agent.Registered
	err = retry(ctx, func() error {
		first, err = agent.Register(ctx, r.plan.control, reg)
		if err == nil || ctx.Err() == nil { // otherwise it says only that the process ended
			r.noteRefused(name, err)
		}
		return err
	})
	if err != nil {
		return err
	}
	if first.Warning != "" {
		r.log.Warn("registered, but without a certificate yet", "id", reg.ID.String(), "reason", first.Warning)
	}
	r.keeping.Go(func() {
		select {
		case <-ctx.Done():
			_ = first.Close()
		case <-first.Gone():
			agent.KeepRegistered(ctx, r.plan.control, reg, r.log)
		}
	})
	return nil
}

// noteRefused keeps why the agent does not register a process, nil if it does, and logs the first reason.
func (r *run) noteRefused(name string, err error) {
	r.mu.Lock()
	before := r.refused[name]
	r.refused[name] = err
	r.mu.Unlock()
	if err != nil && before == nil {
		r.log.Warn("process could not be registered; trying again", "name", name, "error", err)
	}
}

// retry tries until it works or ctx ends: the agent may be starting again.
func retry(ctx context.Context, try func() error) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}
