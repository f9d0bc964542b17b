package up

import (
	"time"

	"example.com/rolecall/internal/catalog"
	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/mesh"
	"example.com/rolecall/internal/supervisor"
)

// event shows what becomes of a process: as progress while the mesh starts, as a line afterwards.
func (r *run) event(e supervisor.Event) {
	r.log.Info("process", "name", e.Name, "state", e.State.String(), "pid", e.PID, "restarts", e.Restarts, "error", e.Err)
	r.mu.Lock()
	up := r.up
	r.mu.Unlock()
	if !up {
		if e.State == supervisor.Ready {
			r.show(e.Name, cli.Done, r.readyDetail(e))
		}
		return
	}
	out := r.config.Out
	at := out.Dim(time.Now().Format(time.TimeOnly))
	switch e.State {
	case supervisor.Waiting:
		out.Printf("%s %s %s: %v; starting it again in %s\n", at, out.Yellow("!"), e.Name, e.Err, e.Pause.Round(time.Millisecond))
	case supervisor.Ready:
		out.Printf("%s %s %s is back as process %d\n", at, out.Green("✓"), e.Name, e.PID)
		if err := mesh.Update(r.dir, func(f *mesh.File) { setProcess(f, e) }); err != nil {
			r.log.Error("mesh.json was not updated", "error", err)
		}
	}
}

func (r *run) newProgress(names []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progress = cli.NewProgress(r.config.Out, names...)
}

// show changes a step of the progress that is on the screen.
func (r *run) show(name string, mark cli.Mark, detail string) {
	r.mu.Lock()
	progress := r.progress
	r.mu.Unlock()
	progress.Set(name, mark, detail)
}

func (r *run) readyDetail(e supervisor.Event) string {
	if p, ok := r.plan.ports[e.Name]; ok {
		return "SERVING on " + address(p.service)
	}
	return r.plan.api
}

// setProcess notes the process that a service or the agent has now.
func setProcess(f *mesh.File, e supervisor.Event) {
	if e.Name == agentName {
		f.Agent.PID, f.Agent.Restarts = e.PID, e.Restarts
	}
	for i := range f.Services {
		if f.Services[i].Name == e.Name {
			f.Services[i].PID, f.Services[i].Restarts = e.PID, e.Restarts
		}
	}
}

// announce writes mesh.json.
func (r *run) announce() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	td := r.plan.td
	f := &mesh.File{
		TrustDomain: td.Name(),
		PID:         pid(),
		Started:     r.began.UTC(),
		WorkloadAPI: "unix://" + r.plan.api,
		Control:     "unix://" + r.plan.control,
		Bundle:      r.dir.Bundle(),
		Roles:       r.dir.Roles(),
		Agent:       mesh.Agent{ID: catalog.ID(td, agentName).String(), PID: r.tasks[agentName].PID()},
		Operators:   r.operators.describe(r.policy),
		Users:       r.users,
	}
	for _, s := range catalog.Services() {
		p := r.plan.ports[s.Name]
		f.Services = append(f.Services, mesh.Service{
			Name: s.Name, ID: s.ID(td).String(), Address: address(p.service), Admin: address(p.admin), PID: r.tasks[s.Name].PID(),
		})
	}
	if err := mesh.Write(r.dir, f); err != nil {
		return err
	}
	r.up = true
	return nil
}
