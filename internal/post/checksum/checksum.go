// Package checksum is the checksum post-processor: it writes files with the
// checksums of other files, as md5sum and its relatives do.
package checksum

import (
	"context"
	"crypto/md5"  //nolint:gosec // asked for by name
	"crypto/sha1" //nolint:gosec // asked for by name
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/value"
)

// Config is what the template says.
type Config struct {
	Types  []string `key:"checksum_types" doc:"md5, sha1, sha224, sha256, sha384 or sha512." opt:"known,default=md5"`
	Output string   `key:"output" doc:"File to write to, with the fields {{.BuildName}}, {{.BuilderType}} and {{.ChecksumType}}." opt:"known,default=packer_{{.BuildName}}_{{.BuilderType}}_{{.ChecksumType}}.checksum"`
}

var hashes = map[string]func() hash.Hash{
	"md5": md5.New, "sha1": sha1.New, "sha224": sha256.New224, "sha256": sha256.New, "sha384": sha512.New384, "sha512": sha512.New,
}

// Kind describes the post-processor.
func Kind() bake.Kind[bake.Post] {
	return bake.Define(bake.Spec[Config, bake.Post]{
		Name:    "checksum",
		Doc:     "Writes the checksums of the artifact's files; of a container image, of its manifest.",
		Example: "- checksum: {checksum_types: [sha256], output: out/SHA256SUMS}",
		Zero: Config{
			Types:  []string{"md5"},
			Output: "packer_{{.BuildName}}_{{.BuilderType}}_{{.ChecksumType}}.checksum",
		},
		Check: check,
		New:   func(c Config) (bake.Post, error) { return summer{c}, nil },
	})
}

func check(c Config, w value.Where) (problems diag.List) {
	for i, t := range c.Types {
		if hashes[t] == nil {
			known := make([]string, 0, len(hashes))
			for name := range hashes {
				known = append(known, name)
			}
			problems.Add(w.At("checksum_types", i), diag.Suggest(t, known), "unknown checksum type %q", t)
		}
	}
	if _, err := bake.RenderFields(c.Output, fields("", "", "")); err != nil {
		problems.AppendErr(w.At("output"), err)
	}
	return problems
}

func fields(name, builder, checksum string) map[string]string {
	return map[string]string{"BuildName": name, "BuilderType": builder, "ChecksumType": checksum}
}

type summer struct{ Config }

// Process adds the checksum files to the artifacts, which are kept.
func (s summer) Process(_ context.Context, env bake.PostEnv, in []bake.Artifact) ([]bake.Artifact, bool, error) {
	var made []string
	for _, t := range s.Types {
		name, err := bake.RenderFields(s.Output, fields(env.Job.Builder, env.Job.Type, t))
		if err != nil {
			return nil, false, err
		}
		path := env.OutPath(name)
		text, err := sums(in, hashes[t])
		if err != nil {
			return nil, false, err
		}
		if slices.Contains(made, path) { // one file for several types: append
			earlier, err := os.ReadFile(path)
			if err != nil {
				return nil, false, err
			}
			text = string(earlier) + text
		} else {
			made = append(made, path)
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, false, err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return nil, false, err
		}
	}
	out := append(slices.Clone(in), bake.Artifact{Builder: "checksum", MediaType: "text/plain", Files: made})
	return out, true, nil
}

// sums are the lines `HEX<tab>NAME`, sorted by artifact and file.
func sums(in []bake.Artifact, newHash func() hash.Hash) (string, error) {
	var out strings.Builder
	for _, a := range in {
		if a.Image != nil {
			manifest, err := a.Image.RawManifest()
			if err != nil {
				return "", err
			}
			h := newHash()
			h.Write(manifest)
			fmt.Fprintf(&out, "%s\t%s\n", hex.EncodeToString(h.Sum(nil)), imageName(a))
		}
		for _, file := range a.Files {
			sum, err := sumFile(file, newHash())
			if err != nil {
				return "", err
			}
			fmt.Fprintf(&out, "%s\t%s\n", sum, filepath.Base(file))
		}
	}
	if out.Len() == 0 {
		return "", errors.New("there is no file and no image to make a checksum of")
	}
	return out.String(), nil
}

func imageName(a bake.Artifact) string {
	if len(a.Refs) > 0 {
		return a.Refs[0].Name()
	}
	return a.Digest.String()
}

func sumFile(path string, h hash.Hash) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
