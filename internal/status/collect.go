package status

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/certfile"
	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/mesh"
	"example.com/rolecall/pki"
	"example.com/rolecall/pki/agent"
)

// skew is how far clocks may be apart before somebody must act: certificates start 30 s before they are issued.
const skew = 30 * time.Second

// Collect looks at everything at once and waits for answers until ctx ends. A mesh that is down is a report too; the error
// is for a folder that cannot be read.
func Collect(ctx context.Context, dir mesh.Dir, now time.Time) (*Report, error) {
	r := &Report{
		Dir: dir.Path(), Time: now.UTC(),
		Processes: []Process{}, Programs: []Program{}, Operators: []Operator{}, Issuers: []pki.IssuerStatus{}, Problems: []Problem{},
	}
	file, err := mesh.Read(dir)
	switch {
	case errors.Is(err, mesh.ErrNotRunning):
		r.down(dir)
	case err != nil:
		return nil, err
	default:
		r.running(ctx, dir, file, now)
	}
	r.authority(dir, now)
	r.showIssuers(dir)
	modes, err := dir.CheckModes()
	if err != nil {
		return nil, err
	}
	for _, finding := range modes {
		what, repair, _ := cutLast(finding, ": ")
		r.problem("files", what, repair)
	}
	return r, nil
}

// down says why there is no mesh.json.
func (r *Report) down(dir mesh.Dir) {
	holder, locked, err := mesh.Running(dir)
	switch {
	case err != nil:
		r.problem("mesh", err.Error(), "look at the folder's owner and modes")
	case locked:
		r.PID, r.Started = holder.PID, holder.Started
		r.problem("mesh", fmt.Sprintf("it is starting or stopping: process %d has not said that it is up", holder.PID),
			"wait a moment; if this stays, look into "+dir.Log("up"))
	default:
		r.problem("mesh", "it is not running", "rolecall up --dir "+cli.Quote(dir.Path()))
	}
}

func (r *Report) running(ctx context.Context, dir mesh.Dir, file *mesh.File, now time.Time) {
	r.TrustDomain, r.PID, r.Started = file.TrustDomain, file.PID, file.Started
	if _, locked, err := mesh.Running(dir); err == nil && !locked {
		// Its processes end soon too, if they have not: nothing that they would say is worth acting on.
		r.problem("mesh", fmt.Sprintf("process %d, which ran it, has gone and has left mesh.json behind", file.PID),
			"rolecall up --dir "+cli.Quote(dir.Path()))
		return
	}
	r.Running = true
	if file.Started.After(now.Add(skew)) {
		r.problem("clock", fmt.Sprintf("it says %s, and the mesh was started at %s", now.UTC().Format(time.RFC3339), file.Started.UTC().Format(time.RFC3339)),
			"set the clock")
	}
	r.policy(dir)
	r.operators(file, now)
	listed, listErr := agent.List(ctx, strings.TrimPrefix(file.Control, "unix://"))
	r.agent(dir, file.Agent, listErr, now)
	guard, err := askAs(file, now)
	if err != nil {
		r.problem("operators", err.Error(), "stop the mesh and start it again: it issues what is missing")
	} else {
		defer guard.Close()
	}
	r.services(ctx, dir, file, guard, now)
	r.programs(file, listed, listErr == nil)
}

// askAs returns a guard with an operator's certificate. Health is for any workload, so it is that of the one with the
// fewest roles.
func askAs(file *mesh.File, now time.Time) (*interceptors.Guard, error) {
	operators := slices.Clone(file.Operators)
	slices.SortStableFunc(operators, func(a, b mesh.Operator) int { return cmp.Compare(len(a.Roles), len(b.Roles)) })
	var errs []error
	for _, o := range operators {
		source, err := certfile.Open(o.Cert, o.Key, file.Bundle)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if svid, err := source.GetX509SVID(); err != nil || !now.Before(svid.Certificates[0].NotAfter) {
			errs = append(errs, fmt.Errorf("the certificate of %s has expired", o.Name))
			continue
		}
		return interceptors.New(source, nil, interceptors.Audit(slog.DiscardHandler), interceptors.Logger(slog.New(slog.DiscardHandler)))
	}
	return nil, fmt.Errorf("no operator's certificate can be used to ask the services: %w", errors.Join(errs...))
}

// services asks all of them at once.
func (r *Report) services(ctx context.Context, dir mesh.Dir, file *mesh.File, guard *interceptors.Guard, now time.Time) {
	found := make([]*Report, len(file.Services))
	var asking sync.WaitGroup
	for i, s := range file.Services {
		found[i] = &Report{PolicyVersion: r.PolicyVersion}
		asking.Go(func() { found[i].service(ctx, dir, s, guard, now) })
	}
	asking.Wait()
	for _, part := range found {
		r.Processes = append(r.Processes, part.Processes...)
		r.Problems = append(r.Problems, part.Problems...)
	}
}

func (r *Report) programs(file *mesh.File, listed []agent.Listed, known bool) {
	for _, p := range file.Programs {
		if !mesh.Alive(p.PID) {
			continue // killed before it could take itself out of mesh.json
		}
		program := Program{SPIFFEID: p.ID, PID: p.PID, Started: p.Started, Command: p.Command}
		i := slices.IndexFunc(listed, func(l agent.Listed) bool { return l.PID == p.PID })
		switch {
		case i >= 0 && listed[i].Problem != "":
			r.problem(p.ID, "it has no certificate: "+listed[i].Problem, "end it, and run it with an identity that the authority gives out")
		case i >= 0:
			program.CertificateNotAfter = listed[i].NotAfter
		case known:
			r.problem(p.ID, fmt.Sprintf("the agent does not know process %d", p.PID), "wait a moment for it to register again, or end it and run it again")
		}
		r.Programs = append(r.Programs, program)
	}
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
