package cli

import (
	"slices"
	"testing"
	"time"
)

func TestGitTags(t *testing.T) {
	const sha = "a1b2c3d4e5f6a1b2c3d4e5f6a1b2c3d4e5f6a1b2"
	for name, test := range map[string]struct {
		git  map[string]any
		want []string
	}{
		"nothing":  {nil, nil},
		"branch":   {map[string]any{"sha": sha, "branch": "topic/x"}, []string{"topic-x", "sha-a1b2c3d"}},
		"tag":      {map[string]any{"sha": sha, "branch": "main", "tag": "v1.2.3"}, []string{"1.2.3", "1.2", "1", "latest"}},
		"detached": {map[string]any{"sha": sha}, []string{"sha-a1b2c3d"}},
	} {
		if got := gitTags(test.git, time.Unix(0, 0)); !slices.Equal(got, test.want) {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

func TestPreviewTag(t *testing.T) {
	preview := previewTag(7)
	for tag, want := range map[string]bool{
		"pr-7": true, "pr-7-a1b2c3d": true, "pr-70": false, "pr-7-fix": false, "pr-17": false, "xpr-7": false, "pr-7-a1b2c3d-x": false, "pr-7-a1b2": false,
	} {
		if got := preview.MatchString(tag); got != want {
			t.Errorf("%s: %v, want %v", tag, got, want)
		}
	}
}
