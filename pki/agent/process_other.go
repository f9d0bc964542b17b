//go:build !linux && !darwin

package agent

import (
	"errors"
	"net"
	"os"
)

// errUnsupported is the answer of systems that do not tell who is at the other end of a socket.
var errUnsupported = errors.New("the agent knows processes apart on Linux and macOS only; elsewhere use SPIRE's agent, or certificate files")

func readProcess(int) (processStat, error) { return processStat{}, errUnsupported }
func readPeer(*net.UnixConn) (peer, error) { return peer{}, errUnsupported }
func openExecutable(int) (*os.File, error) { return nil, errUnsupported }
func executablePath(int) (string, error)   { return "", errUnsupported }

const executablesKnown = false

func keyOf(*os.File) (fileKey, error) { return fileKey{}, errUnsupported }
