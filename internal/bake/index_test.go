package bake_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/bake/baketest"
)

func member(t *testing.T, platform, content string) mutate.IndexAddendum {
	m := mutate.IndexAddendum{Add: baketest.Image(t, content).Image}
	if platform != "" {
		p, err := v1.ParsePlatform(platform)
		if err != nil {
			t.Fatal(err)
		}
		m.Platform = p
	}
	return m
}

func TestIndexArtifact(t *testing.T) {
	amd, arm, note := member(t, "linux/amd64", "a"), member(t, "linux/arm64/v8", "b"), member(t, "unknown/unknown", "c")
	first, err := bake.IndexArtifact("index", []mutate.IndexAddendum{note, arm, amd, arm}, nil)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := first.Index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range manifest.Manifests {
		got = append(got, m.Platform.String())
	}
	if diff := cmp.Diff([]string{"linux/amd64", "linux/arm64/v8", "unknown/unknown"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	other, err := bake.IndexArtifact("index", []mutate.IndexAddendum{amd, arm, note}, nil)
	if err != nil || other.Digest != first.Digest {
		t.Errorf("in another order: %s, %v; want %s", other.Digest, err, first.Digest)
	}
	noted, err := bake.IndexArtifact("index", []mutate.IndexAddendum{amd, arm}, map[string]string{"a": "b"})
	if err != nil {
		t.Fatal(err)
	}
	if manifest, err = noted.Index.IndexManifest(); err != nil || manifest.Annotations["a"] != "b" {
		t.Errorf("annotations %v, %v", manifest.Annotations, err)
	}
}

func TestIndexOfTwoImagesForAPlatform(t *testing.T) {
	_, err := bake.IndexArtifact("index", slices.Concat(
		[]mutate.IndexAddendum{member(t, "linux/arm64", "a")}, []mutate.IndexAddendum{member(t, "linux/arm64/v8", "b")}), nil)
	var twice *bake.PlatformTwiceError
	if !errors.As(err, &twice) || twice.Platform != "linux/arm64" {
		t.Errorf("got %v", err)
	}
}
