package cli

import (
	"strings"
	"unicode/utf8"
)

// Wrap breaks text between words into lines of so many characters at most, as far as its words fit; zero stands for as many as
// one likes.
func Wrap(text string, room int) []string {
	if room == 0 {
		return []string{text}
	}
	var lines []string
	for _, word := range strings.Fields(text) {
		if n := len(lines) - 1; n >= 0 && utf8.RuneCountInString(lines[n])+1+utf8.RuneCountInString(word) <= room {
			lines[n] += " " + word
			continue
		}
		lines = append(lines, word)
	}
	return lines
}

// Paragraphs wraps each paragraph of a text. An empty line ends one, and lines that are indented stay as they are.
func Paragraphs(text string, room int) string {
	var lines []string
	paragraph := ""
	end := func() {
		if paragraph != "" {
			lines = append(lines, Wrap(paragraph, room)...)
		}
		paragraph = ""
	}
	for line := range strings.SplitSeq(text, "\n") {
		if line != "" && !strings.HasPrefix(line, " ") {
			paragraph += line + " "
			continue
		}
		end()
		lines = append(lines, line)
	}
	end()
	return strings.Join(lines, "\n")
}
