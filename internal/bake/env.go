package bake

import (
	"fmt"
	"path"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"github.com/imgbake/imgbake-action/internal/diag"
)

// Note tells the user something, as one line.
func (e Env) Note(format string, args ...any) { e.emit(Note, format, args) }

// Warn tells the user of something that may be wrong, as one line.
func (e Env) Warn(format string, args ...any) { e.emit(Warned, format, args) }

func (e Env) emit(t EventType, format string, args []any) {
	if e.Sink != nil {
		e.Sink.Emit(Event{Type: t, Bake: e.Job.Name, Text: OneLine(fmt.Sprintf(format, args...), 0)})
	}
}

// OneLine makes text fit a line of a log or a title: control characters, and
// with them terminal escapes, become spaces; what is longer than max
// characters, if that is not 0, is cut.
func OneLine(s string, max int) string {
	line := []rune(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s))
	if max > 0 && len(line) > max {
		return string(line[:max-1]) + "…"
	}
	return string(line)
}

// FileTime is the time files get that the step itself makes: SOURCE_DATE_EPOCH,
// or else 1970, so that the same input makes the same image everywhere.
func (j Job) FileTime() time.Time {
	if j.Epoch != nil {
		return j.Epoch.UTC()
	}
	return time.Unix(0, 0).UTC()
}

// FilePath makes a path of the template, relative or absolute, one for Files.
func (e Env) FilePath(p string) (string, error) {
	clean := path.Clean(filepath.ToSlash(p))
	if path.IsAbs(clean) && e.HostDir != "" {
		if rel, err := filepath.Rel(e.HostDir, filepath.FromSlash(clean)); err == nil {
			clean = filepath.ToSlash(rel)
		}
	}
	if path.IsAbs(clean) || clean == ".." || strings.HasPrefix(clean, "../") {
		return "", diag.Problem{Text: fmt.Sprintf("%s is outside the template's folder", p), Hint: "only files below the folder of the template can be read"}
	}
	return clean, nil
}
