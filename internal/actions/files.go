package actions

import (
	"crypto/rand"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"unicode/utf16"
)

// The runner's limits.
const (
	MaxOutputs  = 1 << 20 // bytes of a job's outputs, counted as UTF-16
	MaxSummary  = 1 << 20 // bytes of a step's summary
	MaxSubjects = 500     // artifacts of a job
)

// Files writes the files that the runner reads when the step ends. Names and
// values may come from strangers: a value cannot end early and go on as
// another name. It is safe for concurrent use.
type Files struct {
	getenv func(string) string
	fs     FS
	// delimiter makes a word nobody can know beforehand.
	delimiter func() string

	mu       sync.Mutex
	outputs  int // UTF-16 bytes of outputs so far
	subjects int
	full     bool // the summary was cut
}

// NewFiles finds the files in an environment.
func NewFiles(getenv func(string) string, fs FS) *Files {
	return &Files{getenv: getenv, fs: fs, delimiter: func() string { return "ghadelimiter_" + rand.Text() }}
}

// Output sets an output of the step. The last value of a name counts. A value
// that would exceed the runner's limit is refused: the whole job would fail.
func (f *Files) Output(name, value string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	size := 2 * (len(utf16.Encode([]rune(name))) + len(utf16.Encode([]rune(value))))
	if f.outputs+size > MaxOutputs {
		return fmt.Errorf("output %q: with its %d bytes the job's outputs would be larger than %d", name, size, MaxOutputs)
	}
	if err := f.set("GITHUB_OUTPUT", name, value); err != nil {
		return fmt.Errorf("output %q: %w", name, err)
	}
	f.outputs += size
	return nil
}

// Env sets a variable for the steps that follow.
func (f *Files) Env(name, value string) error {
	if strings.EqualFold(name, "NODE_OPTIONS") {
		return fmt.Errorf("variable %q: the runner does not allow setting it", name)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.set("GITHUB_ENV", name, value); err != nil {
		return fmt.Errorf("variable %q: %w", name, err)
	}
	return nil
}

// State keeps a value for this action's post step, which finds it as STATE_name.
func (f *Files) State(name, value string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.set("GITHUB_STATE", name, value); err != nil {
		return fmt.Errorf("state %q: %w", name, err)
	}
	return nil
}

// Path puts a folder in front of PATH for the steps that follow.
func (f *Files) Path(dir string) error {
	if dir == "" || strings.ContainsAny(dir, "\r\n\x00") {
		return fmt.Errorf("path %q: not one line", dir)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.append("GITHUB_PATH", dir+"\n"); err != nil {
		return fmt.Errorf("path %q: %w", dir, err)
	}
	return nil
}

// digestRef is an image by digest, without the characters that mean something
// else in the file of artifacts.
var digestRef = regexp.MustCompile(`^[^\s=#@]+@sha256:[0-9a-f]{64}$`)

// Artifact tells the runner of an image that was pushed, named with its
// digest: registry/repository@sha256:hex.
func (f *Files) Artifact(ref string) error {
	if !digestRef.MatchString(ref) {
		return fmt.Errorf("artifact %q: not name@sha256:digest", ref)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.subjects >= MaxSubjects {
		return fmt.Errorf("artifact %q: a job can name %d artifacts only", ref, MaxSubjects)
	}
	if err := f.append("GITHUB_ARTIFACTS", "oci://"+ref+"\n"); err != nil {
		return fmt.Errorf("artifact %q: %w", ref, err)
	}
	f.subjects++
	return nil
}

// Summary adds Markdown to the step's page. What does not fit any more is cut
// off at the end of a line, and the last line says so; cut reports that.
// After that nothing more is added.
func (f *Files) Summary(markdown string) (cut bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	name := f.getenv("GITHUB_STEP_SUMMARY")
	if name == "" {
		return false, fmt.Errorf("summary: GITHUB_STEP_SUMMARY: %w", ErrUnavailable)
	}
	if f.full {
		return true, nil
	}
	size, err := f.fs.Size(name)
	if err != nil {
		return false, fmt.Errorf("summary: %w", err)
	}
	if !strings.HasSuffix(markdown, "\n") {
		markdown += "\n"
	}
	fitting, cut := CutMarkdown(markdown, MaxSummary-int(min(size, MaxSummary)), "_The rest of this summary is left out: a step's summary may have 1 MiB._")
	f.full = cut
	if err := f.append("GITHUB_STEP_SUMMARY", fitting); err != nil {
		return cut, fmt.Errorf("summary: %w", err)
	}
	return cut, nil
}

// set appends a name with its value between two lines that the value cannot
// contain, for nobody knew them when it was made.
func (f *Files) set(variable, name, value string) error {
	if name == "" || strings.ContainsAny(name, "=<\r\n\x00") || strings.TrimSpace(name) != name {
		return errors.New("the name is empty, or has a character that the runner's files cannot hold")
	}
	end := f.delimiter()
	if strings.Contains(name, end) || strings.Contains(value, end) {
		return fmt.Errorf("the name or the value contains the delimiter %s", end)
	}
	return f.append(variable, name+"<<"+end+"\n"+value+"\n"+end+"\n")
}

func (f *Files) append(variable, text string) error {
	name := f.getenv(variable)
	if name == "" {
		return fmt.Errorf("%s: %w", variable, ErrUnavailable)
	}
	if text == "" {
		return nil
	}
	return f.fs.Append(name, []byte(text))
}
