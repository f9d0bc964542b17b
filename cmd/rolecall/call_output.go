package main

import (
	"fmt"
	"io"
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

// failed says why a call failed.
func (r *callRun) failed(err error, requestID string) error {
	failure := call.NewFailure(err, requestID)
	if r.json {
		if err := r.app.out.JSON(map[string]any{"error": failure}); err != nil {
			return err
		}
		return cli.ErrReported
	}
	for _, line := range failure.Lines() {
		r.say("%s", line)
	}
	r.say("  %-12s %s, of %s", "called as", r.who.id, r.who.server.ID)
	return cli.ErrReported
}

// say writes a line on standard error: standard output is for answers.
func (r *callRun) say(format string, args ...any) {
	_, _ = io.WriteString(r.app.prompt(), cli.Clean(fmt.Sprintf(format, args...))+"\n")
}
