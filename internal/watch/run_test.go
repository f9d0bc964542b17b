package watch_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/rolecall/internal/watch"
)

// sends is a stream that sends one message, for which its reader takes a time, and then waits for the end of the handler.
func sends(takes time.Duration, over <-chan struct{}) func(*watch.Sending) error {
	return func(sending *watch.Sending) error {
		if err := sending.Do(func() error {
			select {
			case <-time.After(takes):
			case <-over: // gRPC frees a Send so
			}
			return nil
		}); err != nil {
			return err
		}
		<-over
		return nil
	}
}

func TestAStreamWhoseMessageNobodyReadsEndsAfterHalfAMinute(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		takes time.Duration
		want  codes.Code
		after time.Duration
	}{
		"a reader who is slow":       {29 * time.Second, codes.DeadlineExceeded, time.Hour},
		"a reader who does not read": {2 * time.Hour, codes.Aborted, 33 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				over := make(chan struct{})
				defer close(over)
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				began := time.Now()
				err := watch.Run(ctx, nil, sends(test.takes, over))
				if took := time.Since(began); status.Code(err) != test.want || took > test.after {
					t.Errorf("it ended after %v with %v, want %v after %v at most", took, err, test.want, test.after)
				}
			})
		})
	}
}

func TestAStreamEndsWithTheServerAndWithItsSender(t *testing.T) {
	t.Parallel()
	stopping, over := make(chan struct{}), make(chan struct{})
	close(stopping)
	defer close(over)
	if err := watch.Run(t.Context(), stopping, sends(0, over)); status.Code(err) != codes.Unavailable {
		t.Errorf("at the stop of the server: got %v, want Unavailable", err)
	}
	want := status.Error(codes.DataLoss, "of the sender")
	if err := watch.Run(t.Context(), nil, func(*watch.Sending) error { return want }); err != want {
		t.Errorf("at an error of the sender: got %v", err)
	}
	defer func() {
		if p := fmt.Sprint(recover()); !strings.Contains(p, "oh dear") {
			t.Errorf("recovered %q, want the panic of the sender", p)
		}
	}()
	_ = watch.Run(t.Context(), nil, func(*watch.Sending) error { panic("oh dear") })
}
