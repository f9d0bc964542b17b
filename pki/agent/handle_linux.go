package agent

import (
	"errors"

	"golang.org/x/sys/unix"
)

// handle holds on to one process, whoever has its pid later: start times tell processes apart by the hundredth of a
// second, a handle always does.
type handle struct{ fd int }

// openHandle returns a handle of the process. On a kernel without pid file descriptors (Linux 5.3) it never tells an end.
func openHandle(p process) (handle, error) {
	fd, err := unix.PidfdOpen(p.pid, 0)
	if errors.Is(err, unix.ENOSYS) {
		return handle{-1}, p.alive()
	}
	if err != nil {
		return handle{-1}, errGone
	}
	// Asked after the descriptor was opened: it is that of this process.
	if err := p.alive(); err != nil {
		_ = unix.Close(fd)
		return handle{-1}, err
	}
	return handle{fd}, nil
}

// ended tells whether the process has. pidfd_open(2): the descriptor becomes readable then.
func (h handle) ended() bool {
	if h.fd < 0 {
		return false
	}
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(h.fd), Events: unix.POLLIN}}, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		return err != nil || n > 0
	}
}

func (h handle) close() {
	if h.fd >= 0 {
		_ = unix.Close(h.fd)
	}
}
