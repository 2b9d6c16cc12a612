package secret

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
)

// The lengths, in bytes, of a value that can be registered as a secret.
const (
	MinLength = 6
	MaxLength = 64 << 10
)

// ErrUnmaskable is what Add's errors wrap: a value that would make output
// unreadable, or cost too much, if it were masked.
var ErrUnmaskable = errors.New("value cannot be masked")

// commonWords would shred a log without protecting anything.
var commonWords = map[string]bool{
	"changeme": true, "default": true, "docker": true, "example": true, "github": true,
	"imgbake": true, "latest": true, "localhost": true, "master": true, "packer": true,
	"password": true, "private": true, "production": true, "public": true, "release": true,
	"secret": true, "staging": true, "string": true, "ubuntu": true, "debian": true,
}

// Redactor knows secrets and masks them, and the forms they turn into, in text
// and streams. Secrets may be added while writers are in use: they count for
// what is written from then on. It is safe for concurrent use; the zero value
// knows no secret.
type Redactor struct {
	mu       sync.Mutex
	patterns map[string]bool
	built    *matcher // nil: to be made from patterns
}

// Add registers secrets. A value that is too short, too long or a common word
// is refused with an error wrapping ErrUnmaskable that does not show it; the
// others are registered all the same. Empty values are ignored.
func (r *Redactor) Add(values ...string) error {
	var errs []error
	for _, v := range values {
		trimmed := strings.TrimSpace(v)
		switch {
		case trimmed == "":
		case len(trimmed) < MinLength:
			errs = append(errs, fmt.Errorf("secret of %d bytes: %w: shorter than %d bytes", len(trimmed), ErrUnmaskable, MinLength))
		case len(v) > MaxLength:
			errs = append(errs, fmt.Errorf("secret of %d bytes: %w: longer than %d bytes", len(v), ErrUnmaskable, MaxLength))
		case commonWords[strings.ToLower(trimmed)]:
			errs = append(errs, fmt.Errorf("secret of %d bytes: %w: a common word", len(v), ErrUnmaskable))
		default:
			r.register(v)
		}
	}
	return errors.Join(errs...)
}

// AddShort registers secrets that Add refuses for their length or for being a
// common word, because the user asked for it.
func (r *Redactor) AddShort(values ...string) {
	for _, v := range values {
		if strings.TrimSpace(v) != "" && len(v) <= MaxLength {
			r.register(v)
		}
	}
}

func (r *Redactor) register(value string) {
	forms := Forms(value)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.patterns == nil {
		r.patterns = map[string]bool{}
	}
	for _, form := range forms {
		if !r.patterns[form] {
			r.patterns[form] = true
			r.built = nil
		}
	}
}

// matcher returns the automaton of what is registered now; nil: nothing is.
func (r *Redactor) matcher() *matcher {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.built == nil && len(r.patterns) > 0 {
		patterns := make([]string, 0, len(r.patterns))
		for p := range r.patterns {
			patterns = append(patterns, p)
		}
		r.built = newMatcher(patterns)
	}
	return r.built
}

// Redact returns s with every secret masked.
func (r *Redactor) Redact(s string) string {
	if r.matcher() == nil {
		return s
	}
	var b strings.Builder
	w := r.Writer(&b)
	_, _ = w.Write([]byte(s)) // a strings.Builder takes everything
	_ = w.Flush()
	return b.String()
}

// Writer returns a writer that masks secrets on their way to w, however they
// are split over writes.
func (r *Redactor) Writer(w io.Writer) *Writer { return &Writer{redactor: r, to: w} }

// Writer masks secrets in a stream. It holds back only what may be the
// beginning of a secret. Every byte that is part of a secret is masked, and
// secrets that overlap or touch share one mask. It is safe for concurrent use,
// though what several goroutines write is one stream.
type Writer struct {
	redactor *Redactor
	to       io.Writer

	mu     sync.Mutex
	m      *matcher
	state  int32
	held   []byte // bytes seen and not written yet
	hidden []span // parts of held to mask, ascending and apart
	masked bool   // the last thing written is a mask
	out    []byte
}

type span struct{ from, to int }

// Write takes p and writes on what is certain by now.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if m := w.redactor.matcher(); m != w.m {
		w.m, w.state = m, 0
		w.scan(0)
	}
	if w.m == nil {
		return w.to.Write(p)
	}
	from := len(w.held)
	w.held = append(w.held, p...)
	w.scan(from)
	if err := w.emit(len(w.held) - int(w.m.nodes[w.state].depth)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// scan runs the automaton over the held bytes from an index on.
func (w *Writer) scan(from int) {
	if w.m == nil {
		return
	}
	state := w.state
	for i := from; i < len(w.held); i++ {
		state = w.m.step(state, w.held[i])
		if n := int(w.m.nodes[state].match); n > 0 {
			w.hide(span{max(0, i+1-n), i + 1})
		}
	}
	w.state = state
}

// hide adds a span whose end is not before that of any other.
func (w *Writer) hide(s span) {
	for len(w.hidden) > 0 && w.hidden[len(w.hidden)-1].to >= s.from {
		s.from = min(s.from, w.hidden[len(w.hidden)-1].from)
		s.to = max(s.to, w.hidden[len(w.hidden)-1].to)
		w.hidden = w.hidden[:len(w.hidden)-1]
	}
	w.hidden = append(w.hidden, s)
}

// emit writes the held bytes before the index certain, and what follows them
// as long as it is hidden anyway.
func (w *Writer) emit(certain int) error {
	w.out = w.out[:0]
	at := 0
	for len(w.hidden) > 0 && w.hidden[0].from <= certain {
		w.clear(w.held[at:w.hidden[0].from])
		if !w.masked {
			w.out = append(w.out, Mask...)
			w.masked = true
		}
		at = w.hidden[0].to
		w.hidden = w.hidden[1:]
	}
	if at < certain {
		w.clear(w.held[at:certain])
		at = certain
	}
	w.held = append(w.held[:0], w.held[at:]...)
	for i := range w.hidden {
		w.hidden[i].from -= at
		w.hidden[i].to -= at
	}
	if len(w.out) == 0 {
		return nil
	}
	_, err := w.to.Write(w.out)
	return err
}

func (w *Writer) clear(p []byte) {
	if len(p) > 0 {
		w.out = append(w.out, p...)
		w.masked = false
	}
}

// Flush writes what is held back. Call it where the stream ends or nobody will
// write for long: a secret split over a Flush is not found.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.state = 0
	return w.emit(len(w.held))
}

// Close flushes. It does not close the writer below.
func (w *Writer) Close() error { return w.Flush() }
