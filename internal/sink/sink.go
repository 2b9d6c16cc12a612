// Package sink shows a run: it holds the implementations of bake.Sink that
// turn events into what people and machines read. Plain writes prefixed lines,
// Live a view that moves, MachineReadable the lines that Packer's consumers
// parse, JSON the events themselves. It decides nothing about a run.
package sink

import (
	"encoding/json"
	"io"
	"sync"

	"github.com/imgbake/imgbake-action/internal/bake"
)

// Tee gives every event to each of the sinks in order.
func Tee(sinks ...bake.Sink) bake.Sink { return tee(sinks) }

type tee []bake.Sink

// Emit passes the event on.
func (t tee) Emit(e bake.Event) {
	for _, s := range t {
		s.Emit(e)
	}
}

// Redacting passes every event on with redact applied to all its text.
func Redacting(next bake.Sink, redact func(string) string) bake.Sink {
	return redacting{next, redact}
}

type redacting struct {
	next   bake.Sink
	redact func(string) string
}

// Emit passes a redacted copy of the event on.
func (r redacting) Emit(e bake.Event) {
	e.Bake, e.Title, e.Text, e.Error = r.redact(e.Bake), r.redact(e.Title), r.redact(e.Text), r.redact(e.Error)
	e.Refs = r.all(e.Refs)
	if e.Data != nil {
		data := make(map[string]string, len(e.Data))
		for key, text := range e.Data {
			data[r.redact(key)] = r.redact(text)
		}
		e.Data = data
	}
	if e.Artifact != nil {
		a := *e.Artifact
		a.Tags, a.Files, a.Removed, a.Base = r.all(a.Tags), r.all(a.Files), r.all(a.Removed), r.redact(a.Base)
		e.Artifact = &a
	}
	r.next.Emit(e)
}

func (r redacting) all(texts []string) []string {
	if texts == nil {
		return nil
	}
	out := make([]string, len(texts))
	for i, text := range texts {
		out[i] = r.redact(text)
	}
	return out
}

// JSON writes each event as one line of JSON, as docs/events.md says.
type JSON struct{ out output }

// NewJSON makes a JSON sink.
func NewJSON(w io.Writer) *JSON { return &JSON{output{w: w}} }

// Emit writes the event.
func (j *JSON) Emit(e bake.Event) {
	j.out.mu.Lock()
	defer j.out.mu.Unlock()
	enc := json.NewEncoder(&j.out)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(e) // an Event always encodes; write errors are kept by output
}

// Err is the first error of writing.
func (j *JSON) Err() error { return j.out.Err() }

// output is a writer that several goroutines share and that remembers the
// first error: an Emit has nobody to return one to.
type output struct {
	w   io.Writer
	mu  sync.Mutex // held by the sink over one event
	err error
}

// Write writes unless an earlier write went wrong. The caller holds mu.
func (o *output) Write(p []byte) (int, error) {
	if o.err != nil {
		return 0, o.err
	}
	n, err := o.w.Write(p)
	o.err = err
	return n, err
}

// Err is the first error of writing.
func (o *output) Err() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}
