package bake

import "time"

// Sink takes the events of a run, one stream for people and machines. Emit is
// safe for concurrent use and does not block for long.
type Sink interface {
	Emit(Event)
}

// EventType names what happened. The set is closed and documented in
// docs/events.md.
type EventType string

// The events, in the order a bake emits them.
const (
	RunStarted      EventType = "run-started"
	BakeStarted     EventType = "bake-started"
	StepStarted     EventType = "step-started"
	Output          EventType = "output" // one line of a command's output
	Note            EventType = "note"   // one line from imgbake or a component
	Warned          EventType = "warning"
	StepFinished    EventType = "step-finished"
	ArtifactMade    EventType = "artifact"
	Published       EventType = "published"
	BakeFinished    EventType = "bake-finished"
	BakeSkipped     EventType = "bake-skipped"
	RunFinished     EventType = "run-finished"
	CleanupProblem  EventType = "cleanup-problem"
	MachineDetached EventType = "machine-detached"
)

// Event is one thing that happened. The JSON form is the --json stream, one
// object a line.
type Event struct {
	Time     time.Time         `json:"time"`
	Type     EventType         `json:"type"`
	Bake     string            `json:"bake,omitempty"`
	Step     int               `json:"step,omitempty"`   // from 1; 0: not in a step
	Steps    int               `json:"steps,omitempty"`  // how many the bake has
	Title    string            `json:"title,omitempty"`  // of the step: "apt-get update (+3 more)"
	Stream   string            `json:"stream,omitempty"` // of Output: stdout or stderr
	Text     string            `json:"text,omitempty"`
	Error    string            `json:"error,omitempty"`   // of a finished step or bake that failed
	Seconds  float64           `json:"seconds,omitempty"` // how long the step or bake took
	Artifact *ArtifactSummary  `json:"artifact,omitempty"`
	Refs     []string          `json:"refs,omitempty"` // of Published: the names pushed under
	Data     map[string]string `json:"data,omitempty"`
}

// ArtifactSummary is an artifact as events, records and reports show it.
type ArtifactSummary struct {
	Builder   string   `json:"builder"`
	MediaType string   `json:"media_type"`
	Digest    string   `json:"digest,omitempty"`
	Size      int64    `json:"size,omitempty"` // bytes
	Platform  string   `json:"platform,omitempty"`
	EngineID  string   `json:"engine_id,omitempty"`
	Tags      []string `json:"tags,omitempty"`
	Files     []string `json:"files,omitempty"`
	Base      string   `json:"base,omitempty"`
	BaseID    string   `json:"base_digest,omitempty"`
	Layers    []string `json:"layers,omitempty"`  // digests, base first
	Removed   []string `json:"removed,omitempty"` // noise left out of the image
}
