package demo

import (
	"strings"
	"unicode/utf8"

	"example.com/rolecall/internal/cli"
)

// longest is how many characters of an answer are shown at most.
const longest = 110

// say writes text, between words in as many lines as the terminal needs.
func (t *tour) say(indent string, style func(string) string, text string) {
	for _, line := range cli.Wrap(text, t.room(len(indent))) {
		if style != nil {
			line = style(line)
		}
		t.out.Printf("%s%s\n", indent, line)
	}
}

// answer writes what came of an attempt: a head, in its style, and text.
func (t *tour) answer(head, text string, style func(string) string) {
	for i, line := range cli.Wrap(head+" "+text, t.room(4)) {
		if rest, is := strings.CutPrefix(line, head); is && i == 0 {
			line = style(head) + rest
		}
		t.out.Printf("    %s\n", line)
	}
}

// prompt writes commands, one on each line of the text, as somebody would type them.
func (t *tour) prompt(before, commands string) {
	for command := range strings.Lines(commands) {
		indent := before
		for _, line := range wrapCommand(t.named(strings.TrimSpace(command)), t.room(len(before)+2)) {
			t.out.Printf("%s%s\n", indent, t.out.Cyan(line))
			indent = strings.Repeat(" ", len(before)+2)
		}
	}
}

// room returns how many characters there are in a line behind others; zero stands for as many as one likes, where lines are
// read by programs.
func (t *tour) room(taken int) int {
	if !t.out.Terminal() {
		return 0
	}
	return max(t.out.Width()-taken, 20)
}

// cut shortens an answer.
func cut(text string, room int) string {
	if room == 0 || room > longest {
		room = longest
	}
	if r := []rune(text); len(r) > room {
		return string(r[:room-1]) + "…"
	}
	return text
}

// wrapCommand breaks a command of the shell into lines that fit and can be pasted. What it has for a comment goes behind it.
func wrapCommand(command string, room int) []string {
	if room == 0 || utf8.RuneCountInString(command) <= room {
		return []string{command}
	}
	command, comment, _ := strings.Cut(command, "# ")
	var lines []string
	start, last := 0, joint{}
	for _, j := range append(joints(command), joint{at: len(command)}) {
		if j.at-start+len(j.mark) > room && last.at > start {
			lines = append(lines, strings.TrimRight(command[start:last.at], " ")+last.mark)
			start = last.at
		}
		last = j
	}
	if rest := strings.TrimSpace(command[start:]); rest != "" {
		lines = append(lines, rest)
	}
	for _, line := range cli.Wrap(comment, room-2) {
		lines = append(lines, "# "+line)
	}
	return lines
}

// joint is where a command may be broken: what a line then ends with, and where the next one begins.
type joint struct {
	at   int
	mark string
}

// joints finds the spaces between words, which a backslash may break unless a flag comes before its value, and in quoted JSON
// the commas in front of a name, behind which a line end is a space.
func joints(command string) (found []joint) {
	var quote byte
	word := 0
	for i := 0; i < len(command); i++ {
		switch c := command[i]; {
		case quote == '\'' && c != quote:
			if c == ',' && strings.HasPrefix(command[i+1:], `"`) {
				found = append(found, joint{at: i + 1})
			}
		case quote != '\'' && c == '\\':
			i++
		case c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote = c
		case quote == 0 && c == ' ':
			if command[word] != '-' {
				found = append(found, joint{at: i + 1, mark: ` \`})
			}
			word = i + 1
		}
	}
	return found
}
