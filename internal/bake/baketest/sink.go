package baketest

import (
	"sync"

	"github.com/imgbake/imgbake-action/internal/bake"
)

// Sink keeps every event.
type Sink struct {
	mu     sync.Mutex
	events []bake.Event
}

// Emit keeps an event.
func (s *Sink) Emit(e bake.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, e)
}

// Events returns what was emitted so far.
func (s *Sink) Events() []bake.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]bake.Event(nil), s.events...)
}

// Texts returns the texts of the events of one type.
func (s *Sink) Texts(t bake.EventType) []string {
	var out []string
	for _, e := range s.Events() {
		if e.Type == t {
			out = append(out, e.Text)
		}
	}
	return out
}
