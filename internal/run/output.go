package run

import (
	"bytes"
	"io"
	"sync"

	"github.com/imgbake/imgbake-action/internal/bake"
)

const (
	maxLine  = 32 << 10 // bytes; a longer line is shown in pieces
	tailSize = 20       // lines kept for the report of a failure
)

// emit stamps an event with time and bake, and redacts its texts.
func (r *runner) emit(bakeName string, e bake.Event) {
	e.Time, e.Bake = r.Now(), bakeName
	e.Text, e.Title, e.Error = r.Redactor.Redact(e.Text), r.Redactor.Redact(e.Title), r.Redactor.Redact(e.Error)
	r.Sink.Emit(e)
}

func (r *runner) errorText(err error) string {
	if err == nil {
		return ""
	}
	return r.Redactor.Redact(err.Error())
}

// stepOutput turns what a step's commands print into events: redacted across
// writes first, then cut into lines. It is also the step's Sink.
type stepOutput struct {
	stdout, stderr io.Writer
	tail           *tail
	flush          func()
	emit           func(bake.Event)
}

// Emit passes a component's own event on, stamped.
func (o stepOutput) Emit(e bake.Event) { o.emit(e) }

func (r *runner) output(bakeName string, step int) stepOutput {
	o := stepOutput{tail: &tail{}}
	o.emit = func(e bake.Event) {
		e.Step = step
		r.emit(bakeName, e)
	}
	stream := func(name string) (io.Writer, func()) {
		lines := &lineWriter{line: func(text string) {
			o.tail.add(text)
			r.Sink.Emit(bake.Event{Time: r.Now(), Bake: bakeName, Type: bake.Output, Step: step, Stream: name, Text: text})
		}}
		redacted := r.Redactor.Writer(lines)
		return redacted, func() { redacted.Close(); lines.flush() }
	}
	var flushOut, flushErr func()
	o.stdout, flushOut = stream("stdout")
	o.stderr, flushErr = stream("stderr")
	o.flush = func() { flushOut(); flushErr() }
	return o
}

// lineWriter calls line for every line written, without its end.
type lineWriter struct {
	mu   sync.Mutex
	buf  []byte
	line func(string)
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf = append(w.buf, p...)
	for {
		i := bytes.IndexByte(w.buf, '\n')
		if i < 0 {
			break
		}
		w.line(string(bytes.TrimRight(w.buf[:i], "\r")))
		w.buf = w.buf[i+1:]
	}
	for len(w.buf) > maxLine {
		w.line(string(w.buf[:maxLine]))
		w.buf = w.buf[maxLine:]
	}
	return len(p), nil
}

func (w *lineWriter) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.buf) > 0 {
		w.line(string(w.buf))
		w.buf = nil
	}
}

// tail keeps the last lines.
type tail struct {
	mu   sync.Mutex
	last []string
}

func (t *tail) add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.last) == tailSize {
		t.last = t.last[1:]
	}
	t.last = append(t.last, line)
}

func (t *tail) lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]string(nil), t.last...)
}
