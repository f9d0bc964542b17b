package up

import (
	"errors"
	"slices"
	"sync"
	"time"

	"example.com/rolecall/internal/catalog"
	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/mesh"
)

// grace is how long a process may take to end: a little more than a service gives its calls in flight.
const grace = 20 * time.Second

// stop takes everything down: first mesh.json, so that nobody starts to use what goes away; then the services, those that
// call others first; then the agent; then the authority.
func (r *run) stop() error {
	r.mu.Lock()
	wasUp := r.up
	r.up = false
	r.mu.Unlock()
	errs := []error{mesh.Remove(r.dir)}
	if wasUp {
		r.config.Out.Printf("\nstopping; Ctrl-C again ends what is left at once\n")
	}
	r.newProgress(reversed(r.order))
	defer r.progress.End()
	for _, group := range r.groups() {
		var stopping sync.WaitGroup
		results := make([]error, len(group))
		for i, name := range group {
			r.show(name, cli.Working, "stopping")
			stopping.Go(func() {
				results[i] = r.stopTask(name)
				if results[i] != nil {
					r.show(name, cli.Failed, "killed")
					return
				}
				r.show(name, cli.Done, "stopped")
			})
		}
		stopping.Wait()
		errs = append(errs, results...)
	}
	r.sup.Close()
	r.keeping.Wait()
	for _, log := range r.logs {
		errs = append(errs, log.Close())
	}
	errs = append(errs, r.dir.RemoveSockets())
	return errors.Join(errs...)
}

// stopTask stops one process, at once when Ctrl-C came a second time.
func (r *run) stopTask(name string) error {
	task := r.tasks[name]
	stopped := make(chan error, 1)
	go func() { stopped <- task.Stop(grace) }()
	select {
	case err := <-stopped:
		return err
	case <-r.config.Kill:
	}
	_ = task.Stop(0) // that it had to be killed is what was asked for
	<-stopped
	return nil
}

// groups returns what may stop together, in order: services whose callers have stopped, then the agent, then the authority.
func (r *run) groups() [][]string {
	var groups [][]string
	left := slices.DeleteFunc(catalog.Services(), func(s catalog.Service) bool { return s.Name == "authority" })
	for len(left) > 0 {
		called := func(s catalog.Service) bool {
			return slices.ContainsFunc(left, func(other catalog.Service) bool { return slices.Contains(other.Peers, s.Name) })
		}
		var group []string
		for _, s := range left {
			if !called(s) {
				group = append(group, s.Name)
			}
		}
		left = slices.DeleteFunc(left, func(s catalog.Service) bool { return slices.Contains(group, s.Name) })
		groups = append(groups, group)
	}
	groups = append(groups, []string{agentName}, []string{"authority"})
	for i, group := range groups {
		groups[i] = slices.DeleteFunc(group, func(name string) bool { return r.tasks[name] == nil })
	}
	return groups
}

func reversed(names []string) []string {
	names = slices.Clone(names)
	slices.Reverse(names)
	return names
}
