package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/imgbake/imgbake-action/internal/actions"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/secret"
	"github.com/imgbake/imgbake-action/internal/tagrule"
)

// actionInputs are the inputs of action.yml, read.
type actionInputs struct {
	mode, template string
	flags          buildFlags
	runners        map[string]string // by platform
	commentKey     string
	record         string

	comment, summary, allowUntrusted, byDigest bool
}

// forms are what a secret may look like in a log, itself left out.
func forms(text string) []string { return secret.Forms(text) }

// readInputs reads the inputs that depend on nothing else.
func (s *workflowStep) readInputs() (o actionInputs, err error) {
	in := s.in
	bools := newBools(in)
	o = actionInputs{
		mode: cmp.Or(in.Text("mode"), "bake"), template: cmp.Or(in.Text("template"), DefaultTemplate),
		commentKey: cmp.Or(in.Text("comment-key"), "imgbake"), record: in.Text("record"),
		comment: bools.get("comment", true), summary: bools.get("summary", true), allowUntrusted: bools.get("allow-untrusted-template", false),
	}
	f := &o.flags
	f.only, f.except = in.List("only"), in.List("except")
	f.varFiles, f.platforms = in.List("var-files"), in.List("platforms")
	f.cacheFrom = in.Lines("cache-from")
	if to := in.Text("cache-to"); to != "" {
		f.cacheTo = &to
	}
	o.byDigest = bools.get("push-by-digest", false)
	f.allowHostExec = bools.get("allow-host-exec", false)
	f.onError, f.parallel = "cleanup", true
	f.engine, f.load = cmp.Or(in.Text("engine"), "auto"), cmp.Or(in.Text("load"), "auto")
	f.failFast, f.noCache = bools.get("fail-fast", false), bools.get("no-cache", false)
	f.dryRun = bools.get("dry-run", false) || !bools.get("push", true)
	f.cacheDir = in.Text("cache-dir")
	f.insecure = in.List("insecure-registries")
	err = errors.Join(bools.err, s.readPairs(&o))
	if text := in.Text("parallel"); text != "" {
		if _, scan := fmt.Sscanf(text+"\n", "%d\n", &f.parallelBakes); scan != nil || f.parallelBakes < 0 {
			err = errors.Join(err, fmt.Errorf("input parallel: %q is no number of bakes", text))
		}
	}
	if err != nil {
		return o, &exitError{ExitUsage, err}
	}
	return o, nil
}

// readPairs reads the inputs that are lists of name=value. The values of
// secrets are masked before anything else is done with them.
func (s *workflowStep) readPairs(o *actionInputs) error {
	secrets, err := s.in.Pairs("secrets")
	for _, pair := range secrets {
		if pair.Value != "" {
			s.mask(pair.Value)
		}
	}
	f := &o.flags
	f.auth = s.in.Lines("registry-auth")
	for _, entry := range f.auth {
		_, credentials, _ := strings.Cut(entry, "=")
		if _, password, ok := strings.Cut(credentials, ":"); ok && password != "" && !strings.ContainsAny(password[:1], "@$") {
			s.mask(password)
		}
	}
	vars, varsErr := s.in.Pairs("vars")
	runners, runnersErr := s.keyed("runners")
	annotations, annotationsErr := s.keyed("annotations")
	f.given.inputs, f.given.secrets = pairMap(vars), pairMap(secrets)
	f.given.annotations, o.runners = annotations, runners
	for name := range f.given.secrets {
		if _, both := f.given.inputs[name]; both {
			err = errors.Join(err, fmt.Errorf("inputs vars and secrets: %q is in both", name))
		}
	}
	for _, line := range s.in.List("repositories") {
		d := destination{repository: line}
		if image, repository, ok := strings.Cut(line, "="); ok {
			d = destination{image, repository}
		}
		d.repository = strings.ToLower(d.repository) // github.repository may have capitals, a reference must not
		f.given.publish = append(f.given.publish, d)
	}
	return errors.Join(err, varsErr, runnersErr, annotationsErr, s.refuseCaches())
}

// keyed reads an input whose lines are KEY=VALUE, with any key.
func (s *workflowStep) keyed(input string) (map[string]string, error) {
	out := map[string]string{}
	for _, line := range s.in.Lines(input) {
		key, value, ok := strings.Cut(line, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("input %s: %q is not KEY=VALUE", input, line)
		}
		out[strings.TrimSpace(key)] = strings.TrimSpace(value)
	}
	return out, nil
}

// refuseCaches says what to write in place of a cache that is not there.
func (s *workflowStep) refuseCaches() error {
	for _, name := range []string{"cache-from", "cache-to"} {
		for _, line := range s.in.Lines(name) {
			if strings.Contains(line, "type=gha") {
				return fmt.Errorf("input %s: type=gha is not offered: layers lie in a registry anyway, where a cache needs no second upload. Write type=registry,ref=REGISTRY/REPOSITORY", name)
			}
		}
	}
	return nil
}

// fill completes the flags with what follows from the event and from what the
// run may do.
func (s *workflowStep) fill() error {
	f, e := &s.options.flags, s.event
	f.dryRun = f.dryRun || !s.trust.Push
	if !s.trust.Secrets {
		f.auth, f.given.withheld = nil, true
		for name := range f.given.secrets {
			f.given.secrets[name] = ""
		}
		s.options.record = cmp.Or(s.options.record, "imgbake-record.json")
	} else if s.token != "" && e.Service == actions.GitHub && !hasAuth(f.auth, "ghcr.io") {
		f.auth = append(f.auth, "ghcr.io="+cmp.Or(e.Actor, "x-access-token")+":"+s.token)
	}
	f.given.git = gitOf(e)
	f.cacheScope = &s.trust.Cache // what a pull request wrote is read by no release
	if s.trust.Cache.Write == "" {
		_ = s.log.Debug("no cache in a registry is written: this run may only read it")
	}
	return s.fillTags()
}

func hasAuth(entries []string, host string) bool {
	for _, entry := range entries {
		if strings.HasPrefix(entry, host+"=") {
			return true
		}
	}
	return false
}

// gitOf is what expressions read as git.*, as the event has it: there is no git
// in the action's image.
func gitOf(e actions.Event) map[string]any {
	facts := map[string]any{}
	if sha := cmp.Or(e.HeadSHA, e.SHA); sha != "" {
		facts["sha"], facts["short_sha"] = sha, sha[:min(7, len(sha))]
	}
	if branch := cmp.Or(e.HeadRef, e.Branch()); branch != "" && !e.IsTag() {
		facts["branch"] = branch
	}
	if tag, ok := strings.CutPrefix(e.Ref, "refs/tags/"); ok {
		facts["tag"] = tag
	}
	return facts
}

// fillTags makes the automatic tags and the labels.
func (s *workflowStep) fillTags() error {
	facts := s.tagFacts()
	made, problems := s.automaticTags(facts)
	labels, more := tagrule.Labels(facts, made.Version, s.in.Raw("labels"), "input labels")
	problems.Append(more)
	if err := problems.Err(); err != nil {
		return &exitError{ExitUsage, err}
	}
	s.annotate(problems)
	given := &s.options.flags.given
	if given.tags = append([]string{}, made.Names()...); s.options.byDigest && s.options.mode == "bake" {
		given.tags = []string{}
	}
	given.labels = map[string]string{}
	for _, label := range labels {
		given.labels[label.Key] = label.Value
	}
	const created = "org.opencontainers.image.created"
	if s.event.CommitDate.IsZero() && !strings.Contains(s.in.Raw("labels"), created) {
		delete(given.labels, created) // the clock would make every image another one
	}
	return nil
}

// automaticTags are what the inputs tags and flavor make of facts.
func (s *workflowStep) automaticTags(facts tagrule.Facts) (tagrule.Result, diag.List) {
	rules, problems := tagrule.Parse(s.in.Raw("tags"), "input tags")
	if len(rules) == 0 && !problems.HasErrors() {
		rules = tagrule.Defaults(facts)
	}
	flavor, more := tagrule.ParseFlavor(s.in.Raw("flavor"), "input flavor")
	problems.Append(more)
	made, more := tagrule.Make(facts, rules, flavor)
	problems.Append(more)
	return made, problems
}

func (s *workflowStep) tagFacts() tagrule.Facts {
	e := s.event
	return tagrule.Facts{
		Event: e.Name, Ref: e.Ref, SHA: cmp.Or(e.HeadSHA, e.SHA), PR: e.PR, BaseRef: e.BaseRef, DefaultBranch: e.DefaultBranch,
		Prerelease: e.Prerelease, Now: s.Now(), CommitDate: e.CommitDate,
		Repository: e.Repository, Description: e.Description, URL: e.RepositoryURL(), License: e.License,
		Created: cmp.Or(e.CommitDate, time.Unix(0, 0).UTC()),
	}
}

// withRunners adds to each leg the runner for its platform.
func withRunners(legs []byte, runners map[string]string) ([]byte, error) {
	var matrix struct {
		Include []map[string]any `json:"include"`
	}
	if err := json.Unmarshal(legs, &matrix); err != nil {
		return nil, fmt.Errorf("matrix: %w", err)
	}
	all := map[string]string{"": "ubuntu-24.04", "linux/amd64": "ubuntu-24.04", "linux/arm64": "ubuntu-24.04-arm"}
	maps.Copy(all, runners)
	for _, leg := range matrix.Include {
		platform, _ := leg["platform"].(string)
		leg["runner"] = cmp.Or(all[platform], all[""])
	}
	return json.Marshal(matrix)
}

func pairMap(pairs []actions.Pair) map[string]string {
	out := make(map[string]string, len(pairs))
	for _, p := range pairs {
		out[p.Name] = p.Value
	}
	return out
}

// bools reads yes-or-no inputs and keeps the errors.
type bools struct {
	in  actions.Inputs
	err error
}

func newBools(in actions.Inputs) *bools { return &bools{in: in} }

func (b *bools) get(name string, fallback bool) bool {
	v, err := b.in.Bool(name, fallback)
	b.err = errors.Join(b.err, err)
	return v
}
