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

// groups returns what may stop together, in order.
func (r *run) groups() [][]string {
	var groups [][]string
	for _, group := range [][]string{{"orders"}, {"ledger", catalog.Tokens}, {"users"}, {agentName}, {"authority"}} {
		group = slices.DeleteFunc(group, func(name string) bool { return r.tasks[name] == nil })
		if len(group) > 0 {
			groups = append(groups, group)
		}
	}
	return groups
}

func reversed(names []string) []string {
	names = slices.Clone(names)
	slices.Reverse(names)
	return names
}
