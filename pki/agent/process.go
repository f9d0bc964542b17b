package agent

import (
	"errors"
	"fmt"
)

// process is one process for as long as it lives. A pid alone is used again after its process has ended; the start time
// tells the two apart unless both started within the same hundredth of a second (Linux) or microsecond (macOS). Where that
// counts, for what is registered, a handle tells in any case (Linux 5.3).
type process struct {
	pid   int
	start uint64 // ticks since boot (Linux), microseconds since 1970 (macOS): compared, never computed with
}

// maxAncestors bounds the walk from a process up to the one that was registered.
const maxAncestors = 64

// errGone reports that a process has ended; whatever has its pid now is another one.
var errGone = errors.New("the process has ended")

// StartTime returns when a process started, in a unit of the system's own: ticks of a hundredth of a second on Linux,
// microseconds on macOS. With the pid it tells the process from any that has its pid later and did not start in the same
// unit of time.
func StartTime(pid int) (uint64, error) {
	stat, err := readProcess(pid)
	if err != nil {
		return 0, fmt.Errorf("start time of process %d: %w", pid, err)
	}
	return stat.start, nil
}

// processStat is what the system tells about a process.
type processStat struct {
	parent int
	start  uint64
}

// alive fails unless p is still the process with its pid.
func (p process) alive() error {
	stat, err := readProcess(p.pid)
	if err != nil {
		return err
	}
	if stat.start != p.start {
		return fmt.Errorf("%w: its pid %d belongs to another process now", errGone, p.pid)
	}
	return nil
}

// lineage returns p and its ancestors, nearest first. Each step is read twice, so that a parent that ends meanwhile
// cannot be mistaken for a new process with its pid.
func (p process) lineage() ([]process, error) {
	line := []process{p}
	for at := p; len(line) <= maxAncestors; {
		stat, err := readProcess(at.pid)
		if err != nil || stat.start != at.start {
			return nil, fmt.Errorf("%w: pid %d", errGone, at.pid)
		}
		if stat.parent < 1 {
			return line, nil
		}
		parent, hidden := readProcess(stat.parent)
		if again, err := readProcess(at.pid); err != nil || again != stat {
			return nil, fmt.Errorf("%w: pid %d or its parent", errGone, at.pid)
		}
		// A parent that is still the parent and cannot be looked at is another user's on a system that hides those (proc(5),
		// hidepid): the walk ends before it. So it does before one that is younger than its child, which no parent is.
		if hidden != nil || parent.start > stat.start {
			return line, nil
		}
		at = process{stat.parent, parent.start}
		line = append(line, at)
	}
	return line, nil
}
