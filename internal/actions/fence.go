package actions

import (
	"regexp"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// maxLine is the longest line that is kept in memory; a longer one is broken.
const maxLine = 64 << 10

// Fence passes the output of others to a log so that none of it is a command
// to the runner. What would be one is broken by a space, and stays readable:
//
//	::error::no      becomes   : :error::no
//	x ##[error]no    becomes   x ## [error]no
//
// A carriage return ends a line, as it does for the runner. Only whole lines
// are written; Close writes what is left. It is safe for concurrent use.
type Fence struct {
	mu   sync.Mutex
	log  *Log
	line []byte
	cr   bool // the line ended with a carriage return
}

// Fence returns a writer for the output of others. Each stream has its own, so
// that lines of two do not mix.
func (l *Log) Fence() *Fence { return &Fence{log: l} }

// Write passes on the lines that are complete.
func (f *Fence) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out strings.Builder
	for _, c := range p {
		f.add(c, &out)
	}
	return len(p), f.flush(&out)
}

// add takes one byte. A carriage return that ends a line swallows the line
// feed after it, and one in an empty line is nothing.
func (f *Fence) add(c byte, out *strings.Builder) {
	switch c {
	case '\r':
		if len(f.line) > 0 {
			f.end(out)
			f.cr = true
		}
	case '\n':
		if !f.cr {
			f.end(out)
		}
		f.cr = false
	default:
		f.line = append(f.line, c)
		f.cr = false
		if len(f.line) >= maxLine {
			f.end(out)
		}
	}
}

// Close writes the last line if it has no end.
func (f *Fence) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out strings.Builder
	if len(f.line) > 0 {
		f.end(&out)
	}
	return f.flush(&out)
}

func (f *Fence) end(out *strings.Builder) {
	out.WriteString(Harmless(string(f.line)))
	out.WriteByte('\n')
	f.line = f.line[:0]
}

func (f *Fence) flush(out *strings.Builder) error {
	if out.Len() == 0 {
		return nil
	}
	f.log.mu.Lock()
	defer f.log.mu.Unlock()
	return f.log.write(out.String())
}

// Harmless breaks what the runner would take for a command in one line. The
// runner compares text as people read it: characters that are not seen do not
// keep a command apart, so they are looked through here too, and so are
// terminal sequences, which somebody may strip later.
func Harmless(line string) string {
	if !strings.ContainsAny(line, ":#") {
		return line
	}
	return breakCommands(breakCommands(line, nil), terminalSequence)
}

// terminalSequence is colour, cursor movement, titles and links.
var terminalSequence = regexp.MustCompile("^(?:\x1b\\[|\u009b)[0-?]*[ -/]*[@-~]|^\x1b\\][^\x07\x1b]*(?:\x07|\x1b\\\\)|^\x1b[ -/]*[0-~]")

// breakCommands puts a space into :: at the beginning of a line and into ##[
// anywhere. What skip matches is looked through.
func breakCommands(line string, skip *regexp.Regexp) string {
	var b strings.Builder
	var done int // what is copied
	leading, colons, hashes := true, 0, 0
	for i := 0; i < len(line); {
		r, size := utf8.DecodeRuneInString(line[i:])
		if skip != nil && (r == '\x1b' || r == '\u009b') {
			if seq := skip.FindString(line[i:]); seq != "" {
				i += len(seq)
				continue
			}
		}
		if unseen(r) {
			i += size
			continue
		}
		if r == ':' && leading && colons == 1 || r == '[' && hashes >= 2 {
			b.WriteString(line[done:i])
			b.WriteByte(' ')
			done = i
		}
		leading = leading && (r == ' ' && colons == 0 || r == ':' && colons == 0)
		if r == ':' {
			colons++
		}
		if r == '#' {
			hashes++
		} else {
			hashes = 0
		}
		i += size
	}
	b.WriteString(line[done:])
	return b.String()
}

// unseen reports characters that comparing text may pass over: controls,
// formats, marks, fillers, what is not assigned or not UTF-8, and every white
// space but the plain one, which is what breaks commands.
func unseen(r rune) bool {
	return r != ' ' && (r == utf8.RuneError || unicode.IsSpace(r) || !unicode.IsGraphic(r) ||
		unicode.Is(unicode.M, r) || unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r))
}
