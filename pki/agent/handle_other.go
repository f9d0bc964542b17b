//go:build !linux

package agent

// handle is where a system has no handles of processes: the start time alone tells them apart.
type handle struct{}

func openHandle(p process) (handle, error) { return handle{}, p.alive() }
func (handle) ended() bool                 { return false }
func (handle) close()                      {}
