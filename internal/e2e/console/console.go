// Package console runs the commands that documents show and compares what they print with what the documents say.
//
// A document shows a session as a fenced block of the language "console": a line that begins with "$ " is a command,
// lines that end in a backslash go on, as do here-documents up to their last line, and what follows up to the next command is its output, standard error included.
// In the output "…" stands for anything within a line, and a line that is "…" alone for any number of lines. Output that is
// not shown is not compared. All blocks of a document are one session of one shell.
package console

import (
	"fmt"
	"regexp"
	"strings"
)

const (
	fence  = "```"
	prompt = "$ "
	dots   = "…"
)

// Command is one command of a document and what it is said to print.
type Command struct {
	// Line is the number of the command's line in the document, from 1.
	Line int
	Text string
	Want []string
}

// Parse returns the commands of all console blocks of a Markdown document, in order.
func Parse(markdown string) ([]Command, error) {
	var commands []Command
	inside, goesOn, until := false, false, ""
	for i, line := range strings.Split(markdown, "\n") {
		switch {
		case !inside:
			inside = strings.TrimSpace(line) == fence+"console"
		case strings.TrimSpace(line) == fence:
			if goesOn {
				return nil, fmt.Errorf("line %d: the block ends within a command", i+1)
			}
			inside = false
		case goesOn:
			last := &commands[len(commands)-1]
			last.Text += "\n" + line
			goesOn, until = more(line, until)
		case strings.HasPrefix(line, prompt):
			commands = append(commands, Command{Line: i + 1, Text: strings.TrimPrefix(line, prompt)})
			goesOn, until = more(line, "")
		case len(commands) == 0:
			return nil, fmt.Errorf("line %d: output without a command before it; a command begins with %q", i+1, prompt)
		default:
			last := &commands[len(commands)-1]
			last.Want = append(last.Want, line)
		}
	}
	if inside {
		return nil, fmt.Errorf("the last console block does not end")
	}
	return commands, nil
}

// hereDocument is how a command says what the last line of its input is.
var hereDocument = regexp.MustCompile(`<<(\w+)`)

// more tells whether the command goes on after this line, and up to which line if it has a here-document.
func more(line, until string) (bool, string) {
	if until != "" {
		return line != until, until
	}
	if m := hereDocument.FindStringSubmatch(line); m != nil {
		return true, m[1]
	}
	return strings.HasSuffix(line, `\`), ""
}

// Matches tells whether the command may have printed got: always, if its output is not shown.
func (c Command) Matches(got string) bool {
	if len(c.Want) == 0 {
		return true
	}
	var pattern strings.Builder
	pattern.WriteString(`\A`)
	for _, line := range c.Want {
		line = strings.TrimRight(line, " \t")
		if line == dots {
			pattern.WriteString(`(?:.*\n)*?`)
			continue
		}
		parts := strings.Split(line, dots)
		for i, part := range parts {
			parts[i] = regexp.QuoteMeta(part)
		}
		pattern.WriteString(strings.Join(parts, `.*`) + `[ \t\r]*\n`)
	}
	pattern.WriteString(`\z`)
	return regexp.MustCompile(pattern.String()).MatchString(strings.TrimRight(got, "\n") + "\n")
}
