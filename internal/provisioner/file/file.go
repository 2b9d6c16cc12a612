// Package file is the provisioner that copies files: from the host, from text
// in the template or from another image into the machine, and from the machine
// to the host.
package file

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/moby/patternmatcher"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/value"
)

// Config is what a template says of a file step.
type Config struct {
	Source      string   `key:"source" doc:"The file or directory to copy. Of a directory with a slash at the end the contents are copied, of one without the directory itself. Relative to the template's folder; with from or direction: download a path of the image or the machine."`
	Sources     []string `key:"sources" doc:"Several files or directories to copy."`
	Content     *string  `key:"content" doc:"Text to write to the destination instead of a file's; may use secrets."`
	From        string   `key:"from" doc:"The image to copy from: one of this template by name, or any reference."`
	Destination string   `key:"destination" doc:"Where to. With a slash at the end it is a directory to copy a file into. Directories that are missing are made." opt:"required"`
	Direction   string   `key:"direction" doc:"upload copies into the machine, download from it to the template's folder." opt:"enum=upload|download,default=upload"`
	Exclude     []string `key:"exclude" doc:"What to leave out of a directory: patterns as in .dockerignore, relative to the source. One that starts with ! brings back what an earlier one, or the list of credentials, leaves out."`
	Owner       string   `key:"owner" doc:"Owner in the machine: user or user:group, as names or numbers. A name alone brings its primary group." opt:"default=0:0"`
	Mode        Mode     `key:"mode" doc:"Permissions of files, in octal. Otherwise 0755 for files that are executable on the host and 0644 for others; copied from an image they stay."`
	DirMode     Mode     `key:"dir_mode" doc:"Permissions of directories, in octal. Otherwise 0755; copied from an image they stay."`
	Generated   bool     `key:"generated" doc:"The source is made during the run, so it need not be there before." opt:"default=false"`
}

const doc = `Copies files and directories into the machine, or from it.

The same files make the same layer everywhere: modes come down to 0644 and 0755, owners to 0:0, times to SOURCE_DATE_EPOCH or 1970, unless told otherwise. Symbolic links of a directory are copied as they are. A source cannot lead out of the template's folder.

Left out of directories, unless an exclude pattern with ! brings them back, are .git and files that hold credentials: .git-credentials, .netrc, .docker/config.json, .aws/credentials, .ssh/id_*.`

const example = `- file: { source: dist/, destination: /srv/web, owner: www-data, exclude: ["**/*.map"] }
- file: { content: "${upper(var.motd)}\n", destination: /etc/motd }
- file: { from: assets, source: /out/, destination: /srv/web/static }
- file: { direction: download, source: /var/log/build.log, destination: logs/ }`

// Guarded are the patterns of what is never copied unless asked for by an
// exclude pattern that starts with an exclamation mark.
var Guarded = []string{
	"**/.git", "**/.git-credentials", "**/.netrc", "**/.docker/config.json", "**/.aws/credentials", "**/.ssh/id_*",
}

// Kind describes the provisioner.
func Kind() bake.Kind[bake.Provisioner] {
	return bake.Define(bake.Spec[Config, bake.Provisioner]{
		Name: "file", Doc: doc, Example: example,
		Files:   true,
		Zero:    Config{Direction: "upload"},
		Check:   check,
		Inputs:  inputs,
		Title:   title,
		Outside: Config.download,
		New:     func(c Config) (bake.Provisioner, error) { return provisioner{c}, nil },
	})
}

func (c Config) download() bool { return c.Direction == "download" }

// sources is what to copy.
func (c Config) sources() []string {
	if c.Source != "" {
		return []string{c.Source}
	}
	return c.Sources
}

func check(c Config, w value.Where) diag.List {
	var problems diag.List
	var given []string
	for _, key := range []string{"source", "sources", "content"} {
		if w.Given(key) {
			given = append(given, key)
		}
	}
	if len(given) != 1 {
		problems.Add(w.At(), "", "one of source, sources and content is needed, found %d", len(given))
	}
	if w.Given("content") && strings.HasSuffix(c.Destination, "/") {
		problems.Add(w.At("destination"), "name the file", "destination %q is a directory, content makes a file", c.Destination)
	}
	if w.Given("content") && w.Given("from") {
		problems.Add(w.At("from"), "", "from cannot be combined with content")
	}
	if c.download() {
		for _, key := range []string{"content", "from", "owner", "mode", "dir_mode", "generated"} {
			if w.Given(key) {
				problems.Add(w.At(key), "", "%s cannot be combined with direction: download", key)
			}
		}
	}
	if w.Given("destination") && !w.Late("destination") && c.Destination == "" {
		problems.Add(w.At("destination"), "", "the destination is empty")
	}
	if c.Owner != "" {
		if _, err := parseOwner(c.Owner); err != nil {
			problems.Add(w.At("owner"), `such as "www-data", "1000:1000" or "app:www-data"`, "%v", err)
		}
	}
	for i, pattern := range c.Exclude {
		if _, err := patternmatcher.New([]string{pattern}); err != nil {
			problems.Add(w.At("exclude", i), "", "pattern %q: %v", pattern, err)
		}
	}
	return problems
}

func inputs(c Config, w value.Where) []bake.Input {
	if c.download() || w.Given("from") || c.Generated {
		return nil
	}
	exclude := slices.Concat(Guarded, c.Exclude)
	if c.Source != "" {
		return []bake.Input{{Path: c.Source, Exclude: exclude, Pos: w.At("source")}}
	}
	var out []bake.Input
	for i, s := range c.Sources {
		if s != "" {
			out = append(out, bake.Input{Path: s, Exclude: exclude, Pos: w.At("sources", i)})
		}
	}
	return out
}

func title(c Config) string {
	what := "text"
	switch sources := c.sources(); {
	case len(sources) == 1:
		what = sources[0]
	case len(sources) > 1:
		what = fmt.Sprintf("%s (+%d more)", sources[0], len(sources)-1)
	}
	if c.From != "" {
		what = c.From + ":" + what
	}
	if c.Destination == "" {
		return bake.OneLine(what, 0)
	}
	return bake.OneLine(what+" -> "+c.Destination, 0)
}

type provisioner struct{ Config }

// Provision copies everything the config names.
func (p provisioner) Provision(ctx context.Context, env bake.Env) error {
	if env.Communicator == nil {
		return errors.New("this builder has no machine to copy files to or from")
	}
	filter, err := newFilter(p.Exclude)
	if err != nil {
		return err
	}
	if p.download() {
		return p.downloadAll(ctx, env, filter)
	}
	owner, err := resolveOwner(ctx, env.Communicator, p.Owner)
	if err != nil {
		return err
	}
	u := uploader{config: p.Config, env: env, owner: owner, filter: filter}
	switch {
	case p.Content != nil:
		return u.content(ctx, *p.Content)
	case p.From != "":
		for _, source := range p.sources() {
			if err := u.image(ctx, source); err != nil {
				return err
			}
		}
		return nil
	}
	return u.host(ctx, p.sources())
}

// place is where a source goes: entries are named name/… below the directory
// into. With an empty name they are the contents of into.
type place struct{ into, name string }

// placeOf follows Packer: dir/ means the contents of dir, dir the directory
// itself; a file goes below a destination that ends in a slash, and is the
// destination otherwise.
func placeOf(source string, isDir bool, destination string) place {
	dest := path.Clean(destination)
	switch base := path.Base(path.Clean(source)); {
	case isDir && (strings.HasSuffix(source, "/") || base == "." || base == ".."):
		return place{into: dest}
	case isDir || strings.HasSuffix(destination, "/") || dest == "/" || dest == ".":
		return place{into: dest, name: base}
	}
	return place{into: path.Dir(dest), name: path.Base(dest)}
}

// entry is the name in the stream of what has the path rel below the source;
// "." is the source itself.
func (p place) entry(rel string) string { return path.Join(p.name, rel) }
