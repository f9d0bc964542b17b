package run

import (
	"context"
	"errors"
	"sync"
	"time"

	"example.com/rolecall/internal/mesh"
	"example.com/rolecall/pki/agent"
)

// lookEvery is how often mesh.json is looked at: `up` writes a new one, without the program, when it was started again.
const lookEvery = 2 * time.Second

// member keeps a program in the mesh: registered with the agent, also after the agent was started again, and named in
// mesh.json.
type member struct {
	dir     mesh.Dir
	program mesh.Program
	cancel  context.CancelFunc
	working sync.WaitGroup
}

// keepIn keeps the program in until end is called. The first registration stands already; again registers anew until its
// context ends.
func keepIn(ctx context.Context, first *agent.Registered, dir mesh.Dir, program mesh.Program, again func(context.Context)) *member {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	m := &member{dir: dir, program: program, cancel: cancel}
	_ = m.enter() // tried again soon
	m.working.Go(func() {
		select {
		case <-ctx.Done():
		case <-first.Gone():
			again(ctx)
		}
		_ = first.Close()
	})
	m.working.Go(func() { m.stayListed(ctx) })
	return m
}

// end takes the program out of the mesh.
func (m *member) end() error {
	m.cancel()
	m.working.Wait()
	err := mesh.Update(m.dir, func(f *mesh.File) { f.Programs = m.others(f) })
	if errors.Is(err, mesh.ErrNotRunning) {
		return nil
	}
	return err
}

func (m *member) stayListed(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if f, err := mesh.Read(m.dir); err == nil && len(m.others(f)) == len(f.Programs) {
				_ = m.enter() // as with Read: the next look is soon
			}
		}
	}
}

func (m *member) enter() error {
	return mesh.Update(m.dir, func(f *mesh.File) { f.Programs = append(m.others(f), m.program) })
}

// others are the programs of mesh.json but this one.
func (m *member) others(f *mesh.File) []mesh.Program {
	var others []mesh.Program
	for _, p := range f.Programs {
		if p.PID != m.program.PID {
			others = append(others, p)
		}
	}
	return others
}
