package console

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// commandTimeout bounds one command: some wait until certificates have ended.
const commandTimeout = 3 * time.Minute

// marker is printed after each command and never by one.
const marker = "=== end of output: "

// Session is one POSIX shell that commands are given to, one after the other. Not safe for concurrent use.
type Session struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Reader
	once   sync.Once
}

// Start starts a shell in dir with the environment env. Close ends it.
func Start(dir string, env []string) (*Session, error) {
	cmd := exec.Command("sh")
	cmd.Dir, cmd.Env = dir, env
	ownGroup(cmd)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start a shell: %w", err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start a shell: %w", err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a shell: %w", err)
	}
	return &Session{cmd: cmd, stdin: stdin, stdout: bufio.NewReader(stdout)}, nil
}

// Run runs one command, without standard input, and returns what it printed. A command that exits with an error is none:
// the document shows what it prints. One that does not end in three minutes ends the session.
func (s *Session) Run(ctx context.Context, command string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	defer context.AfterFunc(ctx, s.kill)()
	// The braces keep the command in this shell: it may set variables for those that follow.
	if _, err := fmt.Fprintf(s.stdin, "{ %s\n} </dev/null\nprintf '\\n%s%%d\\n' $?\n", command, marker); err != nil {
		return "", fmt.Errorf("give the shell a command: %w", err)
	}
	var out strings.Builder
	for {
		line, err := s.stdout.ReadString('\n')
		if err != nil {
			return out.String(), errors.Join(fmt.Errorf("the shell ended during %q: %w", command, err), ctx.Err())
		}
		if strings.HasPrefix(line, marker) {
			return strings.TrimSuffix(out.String(), "\n"), nil
		}
		out.WriteString(line)
	}
}

// Close ends the shell and, where the system knows groups of processes, what it has left in the background.
func (s *Session) Close() {
	_ = s.stdin.Close()
	s.kill()
	s.once.Do(func() { _ = s.cmd.Wait() })
}

func (s *Session) kill() { killGroup(s.cmd.Process) }
