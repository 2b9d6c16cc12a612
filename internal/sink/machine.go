package sink

import (
	"cmp"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/imgbake/imgbake-action/internal/bake"
)

// MachineReadable writes the comma-separated lines that consumers of Packer's
// -machine-readable parse:
//
//	timestamp,target,type,data...
//
// What people would see comes as type ui (say, message, error); at the end
// come error-count, error, artifact-count and artifact lines per bake.
type MachineReadable struct {
	tally tally
	out   output
}

// NewMachineReadable makes a MachineReadable sink.
func NewMachineReadable(w io.Writer) *MachineReadable {
	return &MachineReadable{out: output{w: w}}
}

// Err is the first error of writing.
func (m *MachineReadable) Err() error { return m.out.Err() }

// Emit writes the event's lines in one piece.
func (m *MachineReadable) Emit(e bake.Event) {
	m.out.mu.Lock()
	defer m.out.mu.Unlock()
	m.tally.apply(e)
	w := csvLines{stamp: strconv.FormatInt(e.Time.Unix(), 10)}
	for _, l := range plainLines(&m.tally, e) {
		w.add("", "ui", uiTypes[l.kind], l.String())
	}
	if e.Type == bake.RunFinished {
		w.errors(m.tally.bakes)
		w.artifacts(m.tally.bakes)
	}
	_, _ = io.WriteString(&m.out, w.b.String())
}

var uiTypes = map[lineKind]string{lineSay: "say", lineMade: "say", lineOutput: "message", lineError: "error"}

type csvLines struct {
	stamp string
	b     strings.Builder
}

// A comma inside a field, as Packer writes it.
var csvField = strings.NewReplacer(",", "%!(PACKER_COMMA)", "\n", `\n`, "\r", `\r`)

func (c *csvLines) add(target string, fields ...string) {
	c.b.WriteString(c.stamp + "," + csvField.Replace(target))
	for _, f := range fields {
		c.b.WriteString("," + csvField.Replace(f))
	}
	c.b.WriteByte('\n')
}

func (c *csvLines) errors(bakes []*progress) {
	var wrong []*progress
	for _, b := range bakes {
		if b.phase == failed {
			wrong = append(wrong, b)
		}
	}
	if len(wrong) == 0 {
		return
	}
	c.add("", "error-count", strconv.Itoa(len(wrong)))
	for _, b := range wrong {
		c.add(b.name, "error", b.reason)
	}
}

func (c *csvLines) artifacts(bakes []*progress) {
	for _, b := range bakes {
		if b.phase != baked {
			continue
		}
		c.add(b.name, "artifact-count", strconv.Itoa(len(b.artifacts)))
		for i, a := range b.artifacts {
			c.artifact(b.name, i, a)
		}
	}
}

func (c *csvLines) artifact(target string, i int, a bake.ArtifactSummary) {
	add := func(fields ...string) {
		c.add(target, append([]string{"artifact", strconv.Itoa(i)}, fields...)...)
	}
	if isNothing(a) {
		add("nil")
		add("end")
		return
	}
	add("builder-id", "imgbake."+a.Builder)
	add("id", cmp.Or(a.EngineID, a.Digest, strings.Join(a.Files, ":")))
	add("string", describe(a))
	add("files-count", fmt.Sprint(len(a.Files)))
	for n, file := range a.Files {
		add("file", strconv.Itoa(n), file)
	}
	add("end")
}

// isNothing tells an artifact that names neither an image nor a file.
func isNothing(a bake.ArtifactSummary) bool {
	return a.Digest == "" && a.EngineID == "" && len(a.Files) == 0 && len(a.Tags) == 0
}
