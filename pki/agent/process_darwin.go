package agent

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// readProcess asks sysctl kern.proc.pid.
func readProcess(pid int) (processStat, error) {
	info, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil || int(info.Proc.P_pid) != pid {
		return processStat{}, fmt.Errorf("%w: pid %d", errGone, pid)
	}
	const zombie = 5 // SZOMB, sys/proc.h
	if info.Proc.P_stat == zombie {
		return processStat{}, fmt.Errorf("%w: pid %d", errGone, pid)
	}
	start := info.Proc.P_starttime
	return processStat{int(info.Eproc.Ppid), uint64(start.Sec)*1_000_000 + uint64(start.Usec)}, nil
}

// readPeer asks the kernel who connected: LOCAL_PEERCRED and LOCAL_PEERPID, unix(4).
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
	cred, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	if err != nil {
		return peer{}, fmt.Errorf("LOCAL_PEERCRED: %w", err)
	}
	pid, err := unix.GetsockoptInt(fd, unix.SOL_LOCAL, unix.LOCAL_PEERPID)
	if err != nil {
		return peer{}, fmt.Errorf("LOCAL_PEERPID: %w", err)
	}
	stat, err := readProcess(pid)
	if err != nil {
		return peer{}, err
	}
	return peer{process: process{pid, stat.start}, uid: cred.Uid, gid: cred.Groups[0]}, nil
}

var errNoExecutable = errors.New("macOS does not tell reliably which file a process runs")

func openExecutable(int) (*os.File, error) { return nil, errNoExecutable }
func executablePath(int) (string, error)   { return "", errNoExecutable }

const executablesKnown = false

func keyOf(*os.File) (fileKey, error) { return fileKey{}, errNoExecutable }
