package supervisor

import (
	"context"
	"io"
	"time"
)

// Program is what to run and how to tell that it works.
type Program struct {
	// Name is for messages and events.
	Name string
	// Path and Args are the command; Env is the whole environment, nil for the supervisor's own.
	Path string
	Args []string
	Env  []string
	// Log takes standard output and standard error. It must be safe for concurrent use.
	Log io.Writer
	// Admit is called after each start, while the process waits at its gate, and the process is let in once it returned nil.
	// What it starts must end with ctx, which ends when the process has ended. Nil lets the process in at once.
	Admit func(ctx context.Context, pid int) error
	// Ready returns once the process of this start does its work, or with ctx's error. Nil means at once.
	Ready func(ctx context.Context) error
}

// State is where a program is in its life.
type State int

// The states, in the order in which a program usually sees them.
const (
	Starting State = iota // the process was started
	Ready                 // it does its work
	Waiting               // it ended by itself and will be started again after a pause
	Stopping              // it was told to end
	Stopped               // it ended and stays so
)

// String returns the state as a word for people.
func (s State) String() string {
	return [...]string{"starting", "ready", "waiting", "stopping", "stopped"}[s]
}

// Event is one change of state. Events of one program come in order; those of different programs may overlap.
type Event struct {
	Name     string
	State    State
	PID      int           // of the current or the last process
	Restarts int           // how often it was started again
	Err      error         // why it ended, with Waiting and Stopped; nil when it was told to
	Pause    time.Duration // until the next start, with Waiting
}
