// Package comment renders what came of a run as GitHub's Markdown: the comment
// on a pull request, and the summary of a job. It is pure, and trusts none of
// the strings it is given.
package comment

// Section is what one job has to tell.
type Section struct {
	Leg     string
	Run     int64
	Attempt int
	Data    Data
}

// Data is what is told about one job's images.
type Data struct {
	Source   Source    `json:"source"`
	Images   []Image   `json:"images,omitempty"`
	Stages   []Stage   `json:"stages,omitempty"`
	Problems []Problem `json:"problems,omitempty"`
	Closed   *Closed   `json:"closed,omitempty"`
}

// Source says where images come from.
type Source struct {
	Repository     string     `json:"repository,omitempty"` // owner/name
	RepositoryURL  string     `json:"repository_url,omitempty"`
	Commit         string     `json:"commit,omitempty"`
	CommitURL      string     `json:"commit_url,omitempty"`
	Run            string     `json:"run,omitempty"` // the workflow and the run's number: "Preview #42"
	RunURL         string     `json:"run_url,omitempty"`
	Template       string     `json:"template,omitempty"` // its path
	TemplateURL    string     `json:"template_url,omitempty"`
	TemplateDigest string     `json:"template_digest,omitempty"`
	Variables      []Variable `json:"variables,omitempty"`    // that differ from their defaults
	Secrets        []string   `json:"secrets,omitempty"`      // names of those that were given
	Capabilities   []string   `json:"capabilities,omitempty"` // what the template asks for beyond containers of its own
	Tool           string     `json:"tool,omitempty"`         // imgbake and its version
}

// Variable is a variable that is not at its default.
type Variable struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	From  string `json:"from,omitempty"`
}

// Status is what became of an image or a stage.
type Status string

// The states.
const (
	Done    Status = "done"
	Cached  Status = "cached" // of a stage: nothing had to be run
	Failed  Status = "failed"
	Skipped Status = "skipped"
)

// Image is one artifact.
type Image struct {
	Name       string    `json:"name"`
	Builder    string    `json:"builder,omitempty"`
	Platform   string    `json:"platform,omitempty"`
	Status     Status    `json:"status"`
	Reason     string    `json:"reason,omitempty"` // why it failed or was skipped
	Output     []string  `json:"output,omitempty"` // the last lines of the step that failed
	Tags       []string  `json:"tags,omitempty"`   // whole references
	Digest     string    `json:"digest,omitempty"`
	Size       int64     `json:"size,omitempty"` // of its layers, compressed
	Before     *Before   `json:"before,omitempty"`
	Base       string    `json:"base,omitempty"`
	BaseDigest string    `json:"base_digest,omitempty"`
	Steps      int       `json:"steps,omitempty"`
	Cached     int       `json:"cached,omitempty"` // how many of the steps
	Seconds    float64   `json:"seconds,omitempty"`
	Run        string    `json:"run,omitempty"`    // the command that runs it, by digest
	Verify     string    `json:"verify,omitempty"` // the command that verifies it
	Packages   *Packages `json:"packages,omitempty"`
}

// Before is the image of the base branch. With the name only, there is none.
type Before struct {
	Name      string `json:"name"` // such as the branch: main
	Digest    string `json:"digest,omitempty"`
	Size      int64  `json:"size,omitempty"`
	SameFiles bool   `json:"same_files,omitempty"` // only the configuration differs, if that does
}

// Packages are the packages in an image, against those of another.
type Packages struct {
	Total   int       `json:"total,omitempty"` // 0: not counted
	Against string    `json:"against,omitempty"`
	Changes []Package `json:"changes,omitempty"`
	// More counts the changes that are not listed.
	More int `json:"more,omitempty"`
}

// Package is a package that was added (no Old), removed (no New) or changed.
type Package struct {
	Name string `json:"name"`
	Old  string `json:"old,omitempty"`
	New  string `json:"new,omitempty"`
}

// Stage is a bake in the picture of the run.
type Stage struct {
	Name    string   `json:"name"`
	Needs   []string `json:"needs,omitempty"` // names of stages, or of base images
	Status  Status   `json:"status"`
	Seconds float64  `json:"seconds,omitempty"`
}

// Problem is something that a reader should know.
type Problem struct {
	Warning bool   `json:"warning,omitempty"`
	Place   string `json:"place,omitempty"` // imgbake.yaml:12
	URL     string `json:"url,omitempty"`   // of the place
	Text    string `json:"text"`
	Hint    string `json:"hint,omitempty"`
}

// Closed says what became of the previews of a closed pull request.
type Closed struct {
	Merged  bool     `json:"merged,omitempty"`
	DryRun  bool     `json:"dry_run,omitempty"` // nothing was deleted
	Deleted []string `json:"deleted,omitempty"` // references
	Left    []Left   `json:"left,omitempty"`
}

// Left is a tag that could not be deleted.
type Left struct {
	Tag string `json:"tag"`
	Why string `json:"why"`
}

// Bounds of what is kept in a comment.
const (
	maxImages   = 64
	maxList     = 100
	maxPackages = 150
	maxText     = 1000 // runes
	maxOutput   = 20   // lines
	maxLine     = 300  // runes
)

// Trim bounds data, so that there is room for the data of other jobs in the
// same comment.
func (d Data) Trim() Data {
	d.Images = cut(d.Images, maxImages)
	d.Stages = cut(d.Stages, maxImages)
	d.Problems = cut(d.Problems, maxList)
	d.Source.Variables = cut(d.Source.Variables, maxList)
	d.Source.Secrets = cut(d.Source.Secrets, maxList)
	d.Source.Capabilities = cut(d.Source.Capabilities, maxList)
	for i := range d.Images {
		im := &d.Images[i]
		im.Tags, im.Reason = cut(im.Tags, maxList), shorten(im.Reason, maxText)
		if n := len(im.Output); n > 0 {
			im.Output = cut(im.Output[max(0, n-maxOutput):], maxOutput)
			for j := range im.Output {
				im.Output[j] = shorten(im.Output[j], maxLine)
			}
		}
		if p := im.Packages; p != nil && len(p.Changes) > maxPackages {
			im.Packages = &Packages{p.Total, p.Against, cut(p.Changes, maxPackages), p.More + len(p.Changes) - maxPackages}
		}
	}
	for i := range d.Problems {
		p := &d.Problems[i]
		p.Text, p.Hint = shorten(p.Text, maxText), shorten(p.Hint, maxText)
	}
	for i := range d.Source.Variables {
		d.Source.Variables[i].Value = shorten(d.Source.Variables[i].Value, maxText)
	}
	return d
}

// cut is a copy of at most n elements.
func cut[T any](in []T, n int) []T { return append([]T(nil), in[:min(n, len(in))]...) }

func shorten(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}
