package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// event is what is read of a line of `imgbake build --json`; docs/events.md
// describes them.
type event struct {
	Time time.Time `json:"time"`
	Type string    `json:"type"`
	Text string    `json:"text"`
}

// events are those of a run of one bake.
type events []event

func parseEvents(text string) (events, error) {
	var all events
	for line := range strings.Lines(text) {
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			return nil, fmt.Errorf("event %q: %w", line, err)
		}
		all = append(all, e)
	}
	return all, nil
}

// started is the index of the note that a post-processor begins.
func (all events) started(post string) (int, error) {
	for i, e := range all {
		if e.Type == "note" && e.Text == "post-processor "+post {
			return i, nil
		}
	}
	return 0, fmt.Errorf("no event says that post-processor %s began", post)
}

// published is when a post-processor had pushed; "": the bake itself.
func (all events) published(post string) (time.Time, error) {
	begin, err := 0, error(nil)
	if post != "" {
		begin, err = all.started(post)
	}
	if err != nil {
		return time.Time{}, err
	}
	for _, e := range all[begin:] {
		if e.Type == "published" {
			return e.Time, nil
		}
	}
	return time.Time{}, fmt.Errorf("no event says that post-processor %s pushed", post)
}

// post is how long a post-processor's push took, in seconds.
func (all events) post(name string) (float64, error) {
	begin, err := all.started(name)
	if err != nil {
		return 0, err
	}
	end, err := all.published(name)
	return end.Sub(all[begin].Time).Seconds(), err
}

// fromSteps is the time from the start of the first step to the bake's push, in
// seconds.
func (all events) fromSteps() (float64, error) {
	end, err := all.published("")
	if err != nil {
		return 0, err
	}
	for _, e := range all {
		if e.Type == "step-started" {
			return end.Sub(e.Time).Seconds(), nil
		}
	}
	return 0, fmt.Errorf("no event says that a step began")
}
