package actions

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// maxPayload is larger than any event that GitHub delivers (25 MB).
const maxPayload = 32 << 20

// payload is an event as the service tells it. Services differ in what they
// leave out and in the types of what they give, so nothing in it is relied on.
type payload map[string]any

// readPayload reads the event's file; no file is an empty event.
func readPayload(getenv func(string) string, fs FS) (payload, error) {
	name := getenv("GITHUB_EVENT_PATH")
	if name == "" {
		return payload{}, nil
	}
	data, err := fs.ReadFile(name, maxPayload)
	if err != nil {
		return nil, fmt.Errorf("event: %w", err)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return payload{}, nil
	}
	p := payload{}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(&p); err != nil {
		return nil, fmt.Errorf("event %q: %w", name, err)
	}
	return p, nil
}

// at is the value under a path of keys such as "pull_request.head.sha", or nil.
func (p payload) at(path string) any {
	var v any = map[string]any(p)
	for key := range strings.SplitSeq(path, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[key]
	}
	return v
}

// has reports whether there is an object under a path.
func (p payload) has(path string) bool {
	m, ok := p.at(path).(map[string]any)
	return ok && m != nil
}

// text is the string under the first of the paths that has one.
func (p payload) text(paths ...string) string {
	for _, path := range paths {
		if s, ok := p.at(path).(string); ok && s != "" {
			return s
		}
	}
	return ""
}

// number is the whole number under the first of the paths that has one.
func (p payload) number(paths ...string) int {
	for _, path := range paths {
		if n, ok := p.at(path).(json.Number); ok {
			if i, err := strconv.Atoi(n.String()); err == nil && i > 0 {
				return i
			}
		}
	}
	return 0
}

// truth is the boolean under a path; anything else is false.
func (p payload) truth(path string) bool {
	b, _ := p.at(path).(bool)
	return b
}

// list is the objects under a path.
func (p payload) list(path string) []payload {
	items, _ := p.at(path).([]any)
	var list []payload
	for _, item := range items {
		if m, ok := item.(map[string]any); ok {
			list = append(list, m)
		}
	}
	return list
}
