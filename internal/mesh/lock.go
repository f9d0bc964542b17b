package mesh

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

const (
	// patience is how long Acquire tries: Running holds the lock for a moment when it looks.
	patience = 500 * time.Millisecond
	// fileWait is how long a change of a file, mesh.json for instance, waits for others, of which each takes milliseconds.
	fileWait = 5 * time.Second
)

// errLocked is what tryLock answers when another process has the lock.
var errLocked = errors.New("locked by another process")

// Lock is the right to run the mesh of a folder. The kernel takes it back when the process ends, however it ends.
type Lock struct{ file *os.File }

// Holder is who runs a mesh, as it wrote when it took the lock.
type Holder struct {
	PID     int       `json:"pid"`
	Command string    `json:"command"`
	Started time.Time `json:"started"`
}

// RunningError says that another process runs the mesh of this folder.
type RunningError struct {
	Dir    string
	Holder Holder
}

func (e *RunningError) Error() string {
	if e.Holder.PID == 0 {
		return fmt.Sprintf("the mesh in %s is run by another process: stop that one, or name another folder with --dir", e.Dir)
	}
	return fmt.Sprintf("the mesh in %s is run by process %d (%s) since %s: stop it with Ctrl-C there or with: kill %d; or name another folder with --dir and free ports with --base-port 0",
		e.Dir, e.Holder.PID, trim(e.Holder.Command, 200), e.Holder.Started.Local().Format(time.DateTime), e.Holder.PID)
}

// Acquire takes the lock of the folder. The error is a *RunningError if another process has it.
func Acquire(d Dir) (*Lock, error) {
	f, err := os.OpenFile(d.file("lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the mesh: %w", err)
	}
	if err := waitLock(f, patience); err != nil {
		defer f.Close()
		if errors.Is(err, errLocked) {
			return nil, &RunningError{Dir: d.path, Holder: readHolder(f)}
		}
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	data, err := json.Marshal(Holder{PID: os.Getpid(), Command: commandLine(os.Args), Started: time.Now().UTC()})
	if err == nil {
		err = rewrite(f, data)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("write %s: %w", f.Name(), err)
	}
	return &Lock{file: f}, nil
}

// Release gives the lock back.
func (l *Lock) Release() error {
	if err := rewrite(l.file, nil); err != nil {
		l.file.Close()
		return fmt.Errorf("release the lock of the mesh: %w", err)
	}
	return l.file.Close()
}

// Running tells who runs the mesh of the folder; ok is false if nobody does.
func Running(d Dir) (holder Holder, ok bool, err error) {
	f, err := os.OpenFile(d.file("lock"), os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return Holder{}, false, nil
	}
	if err != nil {
		return Holder{}, false, fmt.Errorf("look at the lock of the mesh: %w", err)
	}
	defer f.Close()
	switch err := tryLock(f, true); {
	case errors.Is(err, errLocked):
		return readHolder(f), true, nil
	case err != nil:
		return Holder{}, false, fmt.Errorf("look at the lock of the mesh: %w", err)
	}
	return Holder{}, false, nil
}

func readHolder(f *os.File) Holder {
	var h Holder
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return h
	}
	// Whoever took the lock a moment ago may not have written yet: then the holder stays unnamed.
	if err := json.NewDecoder(io.LimitReader(f, 8<<10)).Decode(&h); err != nil {
		return Holder{}
	}
	return h
}

func rewrite(f *os.File, data []byte) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt(data, 0)
	return err
}

// waitLock takes the exclusive lock on f, or answers errLocked if another process has it all the while. Closing f gives it
// back.
func waitLock(f *os.File, limit time.Duration) error {
	err := tryLock(f, false)
	for deadline := time.Now().Add(limit); errors.Is(err, errLocked) && time.Now().Before(deadline); err = tryLock(f, false) {
		time.Sleep(20 * time.Millisecond)
	}
	return err
}

// commandLine joins arguments without the value of --database: the URL may hold a password, in more than one place.
func commandLine(args []string) string {
	args = slices.Clone(args)
	for i, arg := range args {
		switch {
		case strings.HasPrefix(arg, "--database="):
			args[i] = "--database=..."
		case arg == "--database" && i+1 < len(args):
			args[i+1] = "..."
		}
	}
	return trim(strings.Join(args, " "), 1000)
}

// locked runs f while no other process does the same in this folder.
func locked(d Dir, f func() error) error {
	return WithLock(d.file("mesh.json.lock"), f)
}
