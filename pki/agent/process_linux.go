package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// readProcess reads /proc/PID/stat (proc(5)): field 4 is the parent, field 22 the start time. The name in field 2 may
// hold anything, brackets and blanks too, so fields are counted from the last bracket.
func readProcess(pid int) (processStat, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return processStat{}, fmt.Errorf("%w: pid %d", errGone, pid)
	}
	if err != nil {
		return processStat{}, err
	}
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	if len(fields) < 20 {
		return processStat{}, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields)+2)
	}
	if state := fields[0][0]; state == 'Z' || state == 'X' {
		return processStat{}, fmt.Errorf("%w: pid %d", errGone, pid)
	}
	parent, err := strconv.Atoi(string(fields[1]))
	if err != nil {
		return processStat{}, fmt.Errorf("parent in /proc/%d/stat: %w", pid, err)
	}
	start, err := strconv.ParseUint(string(fields[19]), 10, 64)
	if err != nil {
		return processStat{}, fmt.Errorf("start time in /proc/%d/stat: %w", pid, err)
	}
	return processStat{parent, start}, nil
}

// readPeer asks the kernel who connected. A pid file descriptor of the peer (Linux 6.5) tells that its pid was not used
// again between connect and now.
func readPeer(conn *net.UnixConn) (peer, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return peer{}, err
	}
	var found peer
	var peerErr error
	err = raw.Control(func(fd uintptr) { found, peerErr = peerOf(int(fd)) })
	return found, errors.Join(err, peerErr)
}

func peerOf(fd int) (peer, error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return peer{}, fmt.Errorf("SO_PEERCRED: %w", err)
	}
	if cred.Pid <= 0 {
		return peer{}, errors.New("the peer is in another pid namespace: the system does not tell its pid")
	}
	stat, err := readProcess(int(cred.Pid))
	if err != nil {
		return peer{}, err
	}
	if pidfd, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEERPIDFD); err == nil {
		err = unix.PidfdSendSignal(pidfd, 0, nil, 0)
		_ = unix.Close(pidfd)
		if errors.Is(err, unix.ESRCH) {
			return peer{}, fmt.Errorf("%w: pid %d", errGone, cred.Pid)
		}
	}
	return peer{process: process{int(cred.Pid), stat.start}, uid: cred.Uid, gid: cred.Gid}, nil
}

// openExecutable opens the file that the process runs, also if another one lies at its path by now.
func openExecutable(pid int) (*os.File, error) {
	return os.Open(fmt.Sprintf("/proc/%d/exe", pid))
}

func executablePath(pid int) (string, error) {
	return os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
}

const executablesKnown = true

// keyOf tells file contents apart: whoever writes to a file changes its change time, which nobody can set.
func keyOf(f *os.File) (fileKey, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &stat); err != nil {
		return fileKey{}, fmt.Errorf("stat %s: %w", f.Name(), err)
	}
	return fileKey{uint64(stat.Dev), stat.Ino, stat.Size, time.Unix(stat.Ctim.Unix())}, nil
}
