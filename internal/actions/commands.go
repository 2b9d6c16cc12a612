package actions

import (
	"crypto/rand"
	"io"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// maxMessage is how many characters of an annotation the runner keeps.
const maxMessage = 4096

// shortestMask is the shortest line that is masked by itself. A shorter one,
// such as a lone bracket, would be masked everywhere in the log.
const shortestMask = 6

// Log is the step's log: our own commands to the runner, and the lines of
// others, which can be none. Its writes are whole lines, one at a time. It is
// safe for concurrent use.
type Log struct {
	mu    sync.Mutex
	w     io.Writer
	token func() string
	stop  string // the word that makes the runner listen again, while it does not
	group bool
}

// NewLog writes a log to w, which is the step's standard output.
func NewLog(w io.Writer) *Log { return &Log{w: w, token: rand.Text} }

// Annotation is a message that the workflow's pages show at a place of a file.
type Annotation struct {
	Title, Message     string
	File               string // in the workspace; empty is no place
	Line, Column       int    // from 1; 0 is unknown
	EndLine, EndColumn int
}

// Error writes an error annotation. The runner keeps 10 of a kind a step.
func (l *Log) Error(a Annotation) error {
	return l.command("error", a.properties(), shorten(a.Message))
}

// Warning writes a warning annotation.
func (l *Log) Warning(a Annotation) error {
	return l.command("warning", a.properties(), shorten(a.Message))
}

// Notice writes a notice annotation.
func (l *Log) Notice(a Annotation) error {
	return l.command("notice", a.properties(), shorten(a.Message))
}

// Debug writes a line that is shown when the workflow runs with debug logging.
func (l *Log) Debug(message string) error { return l.command("debug", "", message) }

// Group begins a part of the log that can be folded, and ends the one before:
// groups do not nest.
func (l *Log) Group(title string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var end string
	if l.group {
		end = "::endgroup::\n"
	}
	l.group = true
	return l.send(end + "::group::" + escapeData(title) + "\n")
}

// EndGroup ends the group, if one is open.
func (l *Log) EndGroup() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.group {
		return nil
	}
	l.group = false
	return l.send("::endgroup::\n")
}

// Mask makes the runner hide a secret and the forms it may take, in this step's
// log and all later ones. It must come before the first use. The log is masked
// line by line, so each line of a secret is registered; lines too short to be
// masked by themselves are left to whoever writes them.
func (l *Log) Mask(secret string, forms ...string) error {
	var b strings.Builder
	seen := map[string]bool{}
	for _, form := range append([]string{secret}, forms...) {
		for _, part := range maskParts(form) {
			if !seen[part] {
				seen[part] = true
				b.WriteString("::add-mask::" + escapeData(part) + "\n")
			}
		}
	}
	if b.Len() == 0 {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.send(b.String())
}

// maskParts are the lines to mask, or the whole if no line is long enough.
func maskParts(secret string) []string {
	if strings.TrimSpace(secret) == "" {
		return nil
	}
	lines := strings.FieldsFunc(secret, func(r rune) bool { return r == '\n' || r == '\r' })
	if len(lines) == 1 {
		return lines
	}
	var parts []string
	for _, line := range lines {
		if line = strings.TrimSpace(line); len(line) >= shortestMask {
			parts = append(parts, line)
		}
	}
	if parts == nil {
		return []string{secret}
	}
	return parts
}

// Stop makes the runner ignore every command but those of this Log, until
// Resume: a second wall behind Fence. Each time it is another random word that
// makes the runner listen again.
func (l *Log) Stop() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stop != "" {
		return nil
	}
	return l.write(l.stopLine())
}

// Resume makes the runner listen again after Stop.
func (l *Log) Resume() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stop == "" {
		return nil
	}
	line := "::" + l.stop + "::\n"
	l.stop = ""
	return l.write(line)
}

func (l *Log) stopLine() string {
	l.stop = l.token()
	return "::stop-commands::" + l.stop + "\n"
}

// command writes one command; its data may hold anything.
func (l *Log) command(name, properties, data string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if properties != "" {
		properties = " " + properties
	}
	return l.send("::" + name + properties + "::" + escapeData(data) + "\n")
}

// send writes commands, and wakes the runner for them if it is stopped.
func (l *Log) send(lines string) error {
	if l.stop == "" {
		return l.write(lines)
	}
	resume := "::" + l.stop + "::\n"
	return l.write(resume + lines + l.stopLine())
}

func (l *Log) write(lines string) error {
	_, err := io.WriteString(l.w, lines)
	return err
}

// properties renders title and place as a command's properties.
func (a Annotation) properties() string {
	var list []string
	add := func(key, value string) {
		if value != "" {
			list = append(list, key+"="+escapeProperty(value))
		}
	}
	number := func(key string, n int) {
		if a.File != "" && n > 0 {
			add(key, strconv.Itoa(n))
		}
	}
	add("file", a.File)
	number("line", a.Line)
	number("endLine", a.EndLine)
	number("col", a.Column)
	number("endColumn", a.EndColumn)
	add("title", a.Title)
	return strings.Join(list, ",")
}

// shorten cuts a message to what the runner keeps.
func shorten(message string) string {
	if utf8.RuneCountInString(message) <= maxMessage {
		return message
	}
	return string([]rune(message)[:maxMessage-1]) + "…"
}

var (
	dataEscapes     = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	propertyEscapes = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
)

func escapeData(s string) string     { return dataEscapes.Replace(s) }
func escapeProperty(s string) string { return propertyEscapes.Replace(s) }
