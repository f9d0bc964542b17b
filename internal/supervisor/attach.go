package supervisor

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

const (
	gateVariable = "ROLECALL_SUPERVISED"
	gateOpen     = "go\n"
	// orphanGrace is how long a process may take to end by itself after its supervisor has gone.
	orphanGrace = 10 * time.Second
)

// ErrOrphaned is why the context of Attach ended when the supervisor is gone.
var ErrOrphaned = errors.New("the supervisor has gone")

// Attach is the supervised side. It waits until the supervisor has admitted this process, and returns a context that ends
// when the supervisor is gone; ten seconds later the process ends in any case. In a process that nobody supervises it returns
// ctx as it is. Call it once, before anything else; standard input belongs to it from then on.
func Attach(ctx context.Context) (context.Context, error) {
	if os.Getenv(gateVariable) == "" {
		return ctx, nil
	}
	// What this process starts itself is not supervised by the same one.
	if err := os.Unsetenv(gateVariable); err != nil {
		return nil, fmt.Errorf("attach to the supervisor: %w", err)
	}
	return attach(ctx, os.Stdin, func() { os.Exit(1) })
}

func attach(ctx context.Context, stdin io.Reader, exit func()) (context.Context, error) {
	in := bufio.NewReaderSize(stdin, 16)
	line, err := in.ReadSlice('\n')
	if err != nil {
		return nil, fmt.Errorf("wait to be admitted: %w", errors.Join(ErrOrphaned, err))
	}
	if string(line) != gateOpen {
		return nil, fmt.Errorf("wait to be admitted: got %q on standard input", line)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		// The supervisor writes nothing more: this ends when it does.
		_, _ = io.Copy(io.Discard, in)
		cancel(ErrOrphaned)
		time.AfterFunc(orphanGrace, exit)
	}()
	return ctx, nil
}
