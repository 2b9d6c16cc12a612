package oci

import (
	"strings"
	"testing"

	"github.com/imgbake/imgbake-action/internal/bake/baketest"
	"github.com/imgbake/imgbake-action/internal/store"
)

func TestProblems(t *testing.T) {
	tests := map[string]struct {
		config map[string]any
		want   string // the only problem, or none
	}{
		"no network":              {map[string]any{"image": "a", "network": "none"}, ""},
		"no network in a chroot":  {map[string]any{"image": "a", "network": "none", "isolation": "chroot"}, "network none: isolation chroot"},
		"its network in a chroot": {map[string]any{"image": "a", "isolation": "chroot"}, ""},
		"limits":                  {map[string]any{"image": "a", "memory": "1g", "cpus": 1.5, "pids_limit": 100}, ""},
		"too little":              {map[string]any{"image": "a", "cpus": 0.001}, "cpus: 0.001"},
	}
	files, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	kind := New(Deps{Store: files}).Kind()
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			problems := kind.Check(baketest.Body(test.config))
			switch {
			case test.want == "" && len(problems) > 0:
				t.Errorf("got %v", problems)
			case test.want != "" && (len(problems) != 1 || !strings.Contains(problems[0].Error(), test.want)):
				t.Errorf("got %v, want one with %q", problems, test.want)
			}
		})
	}
}
