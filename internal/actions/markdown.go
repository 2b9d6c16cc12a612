package actions

import (
	"regexp"
	"strings"
)

var (
	fenceLine  = regexp.MustCompile("^ {0,3}(```+|~~~+)")
	detailsTag = regexp.MustCompile(`(?i)<(/?)(details|table)\b`)
)

// CutMarkdown shortens Markdown to at most limit bytes, at the end of a line,
// and adds a note that it did. What is open at the cut (a block of code, folded
// details, a table in HTML) is closed before the note, so that the note is
// seen. When not even the note fits, nothing is left.
func CutMarkdown(markdown string, limit int, note string) (text string, cut bool) {
	if len(markdown) <= limit {
		return markdown, false
	}
	for room := limit; room > 0; {
		end := strings.LastIndexByte(markdown[:room], '\n') + 1
		closing := closeOpen(markdown[:end]) + "\n" + note + "\n"
		if end+len(closing) <= limit {
			return markdown[:end] + closing, true
		}
		if end == 0 {
			break
		}
		// Step back by as much as is lacking, at least over one line.
		room = max(0, min(end-1, limit-len(closing)))
	}
	if len(note)+1 <= limit {
		return note + "\n", true
	}
	return "", true
}

// closeOpen is what ends the blocks that are open at the end of some Markdown.
func closeOpen(markdown string) string {
	var fence string
	var open []string
	for line := range strings.Lines(markdown) {
		if m := fenceLine.FindStringSubmatch(line); m != nil {
			switch {
			case fence == "":
				fence = m[1]
			case m[1][0] == fence[0] && len(m[1]) >= len(fence):
				fence = ""
			}
			continue
		}
		if fence != "" {
			continue
		}
		for _, m := range detailsTag.FindAllStringSubmatch(line, -1) {
			if m[1] == "" {
				open = append(open, strings.ToLower(m[2]))
			} else if len(open) > 0 {
				open = open[:len(open)-1]
			}
		}
	}
	var b strings.Builder
	if fence != "" {
		b.WriteString(fence + "\n")
	}
	for i := len(open) - 1; i >= 0; i-- {
		b.WriteString("\n</" + open[i] + ">\n")
	}
	return b.String()
}
