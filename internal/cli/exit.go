package cli

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// The exit codes of every command.
const (
	ExitDone   = 0
	ExitFailed = 1
	ExitUsage  = 2
)

// UsageError is a command line that cannot be meant: an unknown flag, a missing argument, a value out of range.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }
func (e *UsageError) Unwrap() error { return e.Err }

// Usagef makes a UsageError.
func Usagef(format string, args ...any) error { return &UsageError{fmt.Errorf(format, args...)} }

// CodeError ends rolecall with a code of somebody else's, that of the program it ran, and without a message.
type CodeError struct{ Code int }

func (e *CodeError) Error() string { return "exit code " + strconv.Itoa(e.Code) }

// ErrReported ends rolecall with ExitFailed and without a message: what is wrong was shown already.
var ErrReported = errors.New("already reported")

// Exit shows the error on stderr and returns the code to end with. A peer's message in it does nothing to a terminal.
func Exit(stderr *os.File, err error) int {
	var code *CodeError
	var usage *UsageError
	switch {
	case err == nil:
		return ExitDone
	case errors.As(err, &code):
		return code.Code
	case errors.Is(err, ErrReported):
		return ExitFailed
	}
	out := New(stderr)
	lines := strings.Split(err.Error(), "\n")
	for i, line := range lines {
		lines[i] = Clean(line)
	}
	out.Printf("%s %s\n", out.Red("rolecall:"), strings.Join(lines, "\n"))
	if errors.As(err, &usage) {
		return ExitUsage
	}
	return ExitFailed
}
