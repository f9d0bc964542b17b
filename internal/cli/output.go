package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"unicode"

	"golang.org/x/term"
)

// Output is a stream that people read. Safe for concurrent use.
type Output struct {
	mu     sync.Mutex
	w      io.Writer
	fd     int
	live   bool // a terminal: lines may be drawn again
	colour bool
}

// New returns an output to f. Colour and live progress are on only if f is a terminal; NO_COLOR of any value but the empty
// one (no-color.org) turns colour off, TERM=dumb both.
func New(f *os.File) *Output {
	live := term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
	return &Output{w: f, fd: int(f.Fd()), live: live, colour: live && os.Getenv("NO_COLOR") == ""}
}

// Plain returns an output to w without colour or live progress.
func Plain(w io.Writer) *Output { return &Output{w: w, fd: -1} }

// Write implements io.Writer.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.w.Write(p)
}

// Printf writes formatted text. An error of the terminal is nobody's to act on.
func (o *Output) Printf(format string, args ...any) { fmt.Fprintf(o, format, args...) }

// Println writes a line.
func (o *Output) Println(args ...any) { fmt.Fprintln(o, args...) }

// JSON writes v indented, for programs.
func (o *Output) JSON(v any) error {
	enc := json.NewEncoder(o)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}

// Terminal tells whether somebody sits in front of the output and reads as it comes.
func (o *Output) Terminal() bool { return o.live }

// Width returns how many columns the terminal has, 80 if that cannot be told.
func (o *Output) Width() int {
	if w, _, err := term.GetSize(o.fd); err == nil && w > 0 {
		return w
	}
	return 80
}

// Bold returns s in bold, and as it is where colour is off, like all styles.
func (o *Output) Bold(s string) string { return o.style("1", s) }

// Dim returns s dimmed: for what is beside the point.
func (o *Output) Dim(s string) string { return o.style("2", s) }

// Red returns s in red: for what failed.
func (o *Output) Red(s string) string { return o.style("31", s) }

// Green returns s in green: for what went well.
func (o *Output) Green(s string) string { return o.style("32", s) }

// Yellow returns s in yellow: for what needs care.
func (o *Output) Yellow(s string) string { return o.style("33", s) }

// Cyan returns s in cyan: for what can be typed.
func (o *Output) Cyan(s string) string { return o.style("36", s) }

func (o *Output) style(code, s string) string {
	if !o.colour || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// Clean returns text that came from elsewhere (a peer's message, a certificate's name, a log) without anything that a
// terminal would act on: control and formatting characters become a question mark, tabs and line ends a space.
func Clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\n' || r == '\r':
			return ' '
		case unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == unicode.ReplacementChar:
			return '?'
		}
		return r
	}, s)
}
