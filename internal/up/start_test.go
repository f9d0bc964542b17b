//go:build unix

package up

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/mesh"
	"example.com/rolecall/internal/supervisor"
	"example.com/rolecall/pki/agent"
)

func TestAProcessThatIsNotRegisteredIsReportedWithTheReason(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	dir := newDir(t)
	r := &run{config: Config{Out: cli.Plain(io.Discard)}, dir: dir, plan: &plan{control: filepath.Join(dir.Path(), "none.sock")},
		log:   slog.New(slog.NewTextHandler(&log, nil)),
		tasks: map[string]*supervisor.Task{}, logs: map[string]*supervisor.Log{}, refused: map[string]error{}}
	r.newProgress([]string{"ledger"})
	own, err := openLog(dir, "ledger")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	noted := func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.refused["ledger"] != nil
	}
	tried := make(chan struct{})
	sup := supervisor.New(func(supervisor.Event) {})
	r.logs["ledger"] = own
	r.tasks["ledger"] = sup.Start(supervisor.Program{Name: "ledger", Path: "/bin/sleep", Args: []string{"60"}, Log: own,
		Admit: func(ctx context.Context, pid int) error {
			soon, cancel := context.WithCancel(ctx)
			defer cancel()
			go func() {
				for ctx.Err() == nil && !noted() {
					time.Sleep(10 * time.Millisecond)
				}
				time.Sleep(200 * time.Millisecond) // for more tries, which are not logged
				cancel()
			}()
			_ = r.admit(soon, "ledger", agent.Registration{ID: spiffeid.RequireFromString("spiffe://mesh.local/service/ledger"), PID: pid})
			close(tried)
			<-ctx.Done()
			return ctx.Err()
		}})
	select {
	case <-tried:
	case <-time.After(2 * patience):
		t.Fatal("the process was not admitted")
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(fmt.Errorf("it was not ready within %s", wait))
	err = r.await(ctx, "ledger")
	for _, want := range []string{"it was not ready within 1m0s", "the agent does not register it", "no agent answers at " + r.plan.control} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("await: %v, want it to say %q", err, want)
		}
	}
	if err := r.tasks["ledger"].Stop(grace); err != nil {
		t.Error(err)
	}
	sup.Close()
	if n := strings.Count(log.String(), "process could not be registered"); n != 1 {
		t.Errorf("the log tells %d times that the process was not registered, want once:\n%s", n, &log)
	}
	r.noteRefused("ledger", nil)
	if err := r.refused["ledger"]; err != nil {
		t.Errorf("registered at last, and still refused: %v", err)
	}
}

func TestUpRemovesWhatAKilledOneLeftBehind(t *testing.T) {
	t.Parallel()
	dir := newDir(t)
	left := filepath.Join(dir.Path(), ".root.123")
	if err := mesh.WriteFile(left, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	err := Run(ended,
		Config{Dir: dir.Path(), LeafTTL: time.Hour, IssuerTTL: 24 * time.Hour, Executable: "/bin/false", Out: cli.Plain(io.Discard)})
	if found, globErr := filepath.Glob(filepath.Join(dir.Path(), ".root.*")); len(found) > 0 || globErr != nil {
		t.Errorf("left behind: %v, %v (Run: %v)", found, globErr, err)
	}
	var running *mesh.RunningError
	if errors.As(err, &running) {
		t.Errorf("Run: %v", err)
	}
}
