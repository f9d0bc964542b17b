package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"example.com/rolecall/internal/call"
	"example.com/rolecall/internal/cli"
)

// write writes an answer. What a server says does nothing to a terminal; a program gets it as it is.
func (r *callRun) write(w call.Writer, message *call.Message) error {
	text, err := w.Write(message)
	if err != nil {
		return err
	}
	if !r.json {
		lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
		for i, line := range lines {
			lines[i] = cli.Clean(line)
		}
		text = strings.Join(lines, "\n") + "\n"
	}
	_, err = io.WriteString(r.app.out, text)
	return err
}

// fillRequestID gives a request a request_id where it needs one, and says which.
func (r *callRun) fillRequestID(m call.Method, request *call.Message) string {
	id, made := call.FillRequestID(m, request)
	if made {
		r.say("request_id %s", id)
	}
	return id
}

// tellUnknownRoles tells of roles to keep that nobody defines for workloads: a slip of the pen gives up the role that was meant.
func (r *callRun) tellUnknownRoles(m call.Method) {
	known := append(call.Roles(append(call.Builtin(), m.Service)), m.Requires.Roles...)
	for _, role := range r.flags.roles {
		if role != "" && !slices.Contains(known, role) {
			r.say("--role-subset %s: no service that is known here defines this role for workloads", role)
		}
	}
}

// failed says why a call failed.
func (r *callRun) failed(failure *call.Failure) error {
	if r.json {
		if err := r.app.out.JSON(map[string]any{"error": failure}); err != nil {
			return err
		}
		return cli.ErrReported
	}
	for _, line := range failure.Lines() {
		r.say("%s", line)
	}
	user := ""
	if r.who.user != "" {
		user = ", on behalf of " + r.who.user
	}
	r.say("  %-12s %s, at %s%s", "called as", r.who.id, r.who.server.ID, user)
	return cli.ErrReported
}

// say writes a line on standard error: standard output is for answers.
func (r *callRun) say(format string, args ...any) {
	_, _ = io.WriteString(r.app.prompt(), cli.Clean(fmt.Sprintf(format, args...))+"\n")
}
