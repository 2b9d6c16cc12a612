package tagrule

import (
	"strings"

	"github.com/imgbake/imgbake-action/internal/diag"
)

// Label is a key with a value; annotations have the same form.
type Label struct{ Key, Value string }

// ociPrefix begins the keys of the OCI image specification.
const ociPrefix = "org.opencontainers.image."

// Labels are those of the OCI specification that the facts give, and the lines
// of the user, key=value each, which may hold expressions and win. They are
// sorted by key.
func Labels(f Facts, version, text, source string) ([]Label, diag.List) {
	created := f.Created
	if created.IsZero() {
		created = f.Now
	}
	labels := map[string]string{
		ociPrefix + "title":       lastPart(f.Repository),
		ociPrefix + "description": f.Description,
		ociPrefix + "url":         f.URL,
		ociPrefix + "source":      f.URL,
		ociPrefix + "version":     version,
		ociPrefix + "created":     created.UTC().Format(rfc3339Milli),
		ociPrefix + "revision":    f.SHA,
		ociPrefix + "licenses":    f.License,
	}
	problems := takeLabels(f, text, source, labels)
	list := make([]Label, 0, len(labels))
	for _, key := range sortedKeys(labels) {
		list = append(list, Label{key, labels[key]})
	}
	return list, problems
}

// rfc3339Milli is the form in which JavaScript writes a time.
const rfc3339Milli = "2006-01-02T15:04:05.000Z07:00"

func lastPart(repository string) string { return repository[strings.LastIndexByte(repository, '/')+1:] }

func takeLabels(f Facts, text, source string, labels map[string]string) diag.List {
	var problems diag.List
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		pos := diag.Pos{File: source, Line: number}
		t, err := parseTemplate(line, globals)
		if err != nil {
			problems.Add(pos, "", "label %q: %v", line, err)
			continue
		}
		key, value, ok := strings.Cut(t.expand(f, nil), "=")
		if key = strings.TrimSpace(key); !ok || key == "" {
			problems.Warn(pos, "write key=value", "label %q: has no value and is left out", line)
			continue
		}
		labels[key] = value
	}
	return problems
}
