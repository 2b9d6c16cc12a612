// Package diag says where something is in a user's file and what is wrong with it.
//
// It holds positions, problems and lists of problems, and nothing else: how
// they look as text, JSON or workflow annotations is in render.go.
package diag

import (
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"
)

// Pos is a place in a file. Line and Column count from 1; Column counts
// characters (runes), not bytes. The zero Pos is an unknown place; a Pos with
// a File and Line 0 means the file as a whole.
type Pos struct {
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
}

// IsZero reports whether the place is unknown.
func (p Pos) IsZero() bool { return p == Pos{} }

// String renders file:line:column, leaving out what is unknown.
func (p Pos) String() string {
	parts := make([]string, 0, 3)
	if p.File != "" {
		parts = append(parts, p.File)
	}
	if p.Line > 0 {
		parts = append(parts, strconv.Itoa(p.Line))
		if p.Column > 0 {
			parts = append(parts, strconv.Itoa(p.Column))
		}
	}
	return strings.Join(parts, ":")
}

// Severity tells an error from a warning.
type Severity int

// The severities. The zero value is Error.
const (
	Error Severity = iota
	Warning
)

// String returns "error" or "warning".
func (s Severity) String() string {
	if s == Warning {
		return "warning"
	}
	return "error"
}

// MarshalText makes a Severity its word in JSON.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Problem is one thing wrong with the user's input. Text starts in lower case,
// names the offending value and has no full stop; Hint says what to do.
type Problem struct {
	Pos      Pos      `json:"pos,omitzero"`
	Severity Severity `json:"severity"`
	Text     string   `json:"text"`
	Hint     string   `json:"hint,omitempty"`
}

// Error renders the problem on one line.
func (p Problem) Error() string {
	text := p.Text
	if !p.Pos.IsZero() {
		text = p.Pos.String() + ": " + text
	}
	if p.Hint != "" {
		text += " (" + p.Hint + ")"
	}
	return text
}

// List is every problem found, in any order until Sort. It is an error when
// it holds at least one Problem of severity Error: use Err.
type List []Problem

// Add appends an error at a place. The hint may be empty.
func (l *List) Add(pos Pos, hint, format string, args ...any) {
	*l = append(*l, Problem{Pos: pos, Text: fmt.Sprintf(format, args...), Hint: hint})
}

// Warn appends a warning at a place. The hint may be empty.
func (l *List) Warn(pos Pos, hint, format string, args ...any) {
	*l = append(*l, Problem{Pos: pos, Severity: Warning, Text: fmt.Sprintf(format, args...), Hint: hint})
}

// Append adds other problems.
func (l *List) Append(other List) { *l = append(*l, other...) }

// AppendErr adds what err holds: the problems of a List or Problem inside it,
// or else its text. What has no place of its own gets the one given.
func (l *List) AppendErr(pos Pos, err error) {
	var list List
	var one Problem
	switch {
	case err == nil:
	case errors.As(err, &list):
		for _, p := range list {
			*l = append(*l, p.at(pos))
		}
	case errors.As(err, &one):
		*l = append(*l, one.at(pos))
	default:
		l.Add(pos, "", "%v", err)
	}
}

// at is the problem with a place, if it has none.
func (p Problem) at(pos Pos) Problem {
	if p.Pos.IsZero() {
		p.Pos = pos
	}
	return p
}

// HasErrors reports whether any problem is an error.
func (l List) HasErrors() bool {
	for _, p := range l {
		if p.Severity == Error {
			return true
		}
	}
	return false
}

// Err returns the list as an error, or nil when it holds warnings only.
func (l List) Err() error {
	if !l.HasErrors() {
		return nil
	}
	return l
}

// Sort orders the problems by file, line and column, keeping the order of
// equals, and drops exact repetitions.
func (l *List) Sort() {
	sort.SliceStable(*l, func(i, j int) bool {
		a, b := (*l)[i].Pos, (*l)[j].Pos
		if a.File != b.File {
			return a.File < b.File
		}
		if a.Line != b.Line {
			return a.Line < b.Line
		}
		return a.Column < b.Column
	})
	seen := make(map[Problem]bool, len(*l))
	kept := (*l)[:0]
	for _, p := range *l {
		if !seen[p] {
			seen[p] = true
			kept = append(kept, p)
		}
	}
	*l = kept
}

// Error renders one problem a line.
func (l List) Error() string {
	lines := make([]string, len(l))
	for i, p := range l {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}
