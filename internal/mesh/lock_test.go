package mesh_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"example.com/rolecall/internal/mesh"
)

func TestTheSecondToTakeTheLockIsToldWhoHasIt(t *testing.T) {
	t.Parallel()
	d := create(t)
	if _, running, err := mesh.Running(d); running || err != nil {
		t.Fatalf("before: running %t, %v", running, err)
	}
	lock, err := mesh.Acquire(d)
	if err != nil {
		t.Fatal(err)
	}
	_, err = mesh.Acquire(d)
	var taken *mesh.RunningError
	if !errors.As(err, &taken) || taken.Holder.PID != os.Getpid() {
		t.Fatalf("second: %v, want a RunningError of process %d", err, os.Getpid())
	}
	if want := fmt.Sprintf("kill %d", os.Getpid()); !strings.Contains(err.Error(), want) {
		t.Errorf("error %q does not say %q", err, want)
	}
	if holder, running, err := mesh.Running(d); !running || err != nil || holder.PID != os.Getpid() {
		t.Errorf("while held: %v, running %t, %v", holder, running, err)
	}
	if err := lock.Release(); err != nil {
		t.Fatal(err)
	}
	if _, running, err := mesh.Running(d); running || err != nil {
		t.Errorf("after: running %t, %v", running, err)
	}
	again, err := mesh.Acquire(d)
	if err != nil {
		t.Fatalf("after release: %v", err)
	}
	if err := again.Release(); err != nil {
		t.Error(err)
	}
}
