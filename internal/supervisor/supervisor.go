package supervisor

import (
	"os/exec"
	"runtime"
	"sync"
)

// Supervisor starts programs and keeps them running. Safe for concurrent use.
type Supervisor struct {
	notify func(Event)
	starts chan start
	tasks  sync.WaitGroup
	done   chan struct{}
}

type start struct {
	cmd    *exec.Cmd
	result chan error
}

// New returns a supervisor that reports every change of state to notify, which may be called from several goroutines at
// once and must not block for long.
func New(notify func(Event)) *Supervisor {
	s := &Supervisor{notify: notify, starts: make(chan start), done: make(chan struct{})}
	go s.spawn()
	return s
}

// spawn starts every process from one OS thread that lives until Close: the parent-death signal is sent when the thread
// that started a child ends (prctl(2), PR_SET_PDEATHSIG), and the Go runtime ends threads as it likes.
func (s *Supervisor) spawn() {
	runtime.LockOSThread()
	defer close(s.done)
	for start := range s.starts {
		start.result <- start.cmd.Start()
	}
}

func (s *Supervisor) start(cmd *exec.Cmd) error {
	result := make(chan error, 1)
	s.starts <- start{cmd, result}
	return <-result
}

// Start runs the program until its task is stopped.
func (s *Supervisor) Start(p Program) *Task {
	t := &Task{
		program: p,
		sup:     s,
		ready:   make(chan struct{}),
		stop:    make(chan struct{}),
		kill:    make(chan struct{}),
		stopped: make(chan struct{}),
	}
	s.tasks.Add(1)
	go func() {
		defer s.tasks.Done()
		defer close(t.stopped)
		t.run()
	}()
	return t
}

// Close waits until every task was stopped and has ended.
func (s *Supervisor) Close() {
	s.tasks.Wait()
	close(s.starts)
	<-s.done
}
