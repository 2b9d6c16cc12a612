package actions

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// Pair is a name with a value. Printing it shows the name only, for the value
// may be a secret.
type Pair struct{ Name, Value string }

// String returns the name.
func (p Pair) String() string { return p.Name + "=***" }

// GoString returns the name, so that %#v is safe too.
func (p Pair) GoString() string { return p.String() }

// pairName is what may stand before the = or <<. It is narrow on purpose: the
// second line of a key in PEM form is no name.
var pairName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)

// Pairs is an input of name=value entries, as `secrets` and `vars` are. The
// value of an entry may have several lines, in either of two ways:
//
//	"name=first line
//	second line, with ""quotes"" doubled"
//
//	name<<END
//	first line
//	second line
//	END
//
// The first is how docker/build-push-action has it; the second is that of the
// runner's own files, where any word may stand for END. Of a value on one line
// the white space around it is dropped; in quotes and between the words it is
// kept. The same name twice is an error. No error shows a value.
func (in Inputs) Pairs(name string) ([]Pair, error) {
	pairs, err := parsePairs(in.Raw(name))
	if err != nil {
		return nil, fmt.Errorf("input %s: %w", name, err)
	}
	return pairs, nil
}

// pairReader goes through the lines of an input.
type pairReader struct {
	rest string
	line int
}

// next takes a line off, without its end.
func (r *pairReader) next() (line string, ok bool) {
	if r.rest == "" {
		return "", false
	}
	line, r.rest, _ = strings.Cut(r.rest, "\n")
	r.line++
	return strings.TrimSuffix(line, "\r"), true
}

func parsePairs(text string) ([]Pair, error) {
	var pairs []Pair
	seen := map[string]int{}
	r := &pairReader{rest: text}
	for {
		line, ok := r.next()
		if !ok {
			return pairs, nil
		}
		trimmed := strings.TrimSpace(line)
		if trimmed == "" || trimmed[0] == '#' {
			continue
		}
		at := r.line
		p, err := r.pair(trimmed, line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", at, err)
		}
		if first, twice := seen[p.Name]; twice {
			return nil, fmt.Errorf("line %d: %s is already on line %d", at, p.Name, first)
		}
		seen[p.Name] = at
		pairs = append(pairs, p)
	}
}

// pair reads the entry that begins on this line.
func (r *pairReader) pair(trimmed, line string) (Pair, error) {
	if trimmed[0] == '"' {
		return r.quoted(line)
	}
	equals, heredoc := strings.Index(trimmed, "="), strings.Index(trimmed, "<<")
	switch {
	case heredoc > 0 && (equals < 0 || heredoc < equals):
		return r.heredoc(trimmed[:heredoc], strings.TrimSpace(trimmed[heredoc+2:]))
	case equals > 0:
		return oneLine(trimmed[:equals], strings.TrimSpace(trimmed[equals+1:]))
	}
	return Pair{}, errNoPair
}

// errNoPair does not show the line: it is probably a part of a secret.
var errNoPair = errors.New("not name=value (if it goes on from the line before, write that value as name<<END, its lines, and END)")

func oneLine(name, value string) (Pair, error) {
	name = strings.TrimSpace(name)
	if !pairName.MatchString(name) {
		return Pair{}, errNoPair
	}
	if strings.HasPrefix(value, "-----BEGIN ") {
		return Pair{}, fmt.Errorf("the value of %s seems to have several lines: write it as %s<<END, its lines, and END", name, name)
	}
	return Pair{name, value}, nil
}

func (r *pairReader) heredoc(name, end string) (Pair, error) {
	name = strings.TrimSpace(name)
	if !pairName.MatchString(name) || end == "" {
		return Pair{}, errNoPair
	}
	var lines []string
	for {
		line, ok := r.next()
		if !ok {
			return Pair{}, fmt.Errorf("the value of %s has no end: no line is %s", name, end)
		}
		if strings.TrimSpace(line) == end {
			return Pair{name, strings.Join(lines, "\n")}, nil
		}
		lines = append(lines, line)
	}
}

func (r *pairReader) quoted(line string) (Pair, error) {
	entry := strings.TrimLeft(line, " \t")
	for {
		text, rest, ok := unquote(entry)
		if !ok {
			more, is := r.next()
			if !is {
				return Pair{}, errors.New("a value in quotes has no closing quote (a quote inside of one is written twice)")
			}
			entry += "\n" + more
			continue
		}
		name, value, is := strings.Cut(text, "=")
		if name = strings.TrimSpace(name); !is || !pairName.MatchString(name) || rest != "" {
			return Pair{}, errors.New("not \"name=value\" (a quote inside of quotes is written twice)")
		}
		return Pair{name, value}, nil
	}
}
