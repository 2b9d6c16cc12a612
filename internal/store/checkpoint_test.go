package store

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/layer"
)

// A checkpoint is what a delta wrote to its end; why the delta broke off is the
// error, and not what that did to the stream.
func TestCheckpoint(t *testing.T) {
	broke := errors.New("the machine is gone")
	whole := tarOf(t, "etc/motd", strings.Repeat("hello ", 10_000))
	for _, c := range []struct {
		name  string
		delta func(io.Writer) error
		want  error
	}{
		{"whole", func(w io.Writer) error { _, err := w.Write(whole); return err }, nil},
		{"more after its end", func(w io.Writer) error { _, err := w.Write(append(whole, make([]byte, 1<<16)...)); return err }, nil},
		{"broken off", func(w io.Writer) error { _, _ = w.Write(whole[:5000]); return broke }, broke},
		{"broken at the end", func(w io.Writer) error { _, _ = w.Write(whole); return broke }, broke},
		{"nothing", func(io.Writer) error { return broke }, broke},
	} {
		t.Run(c.name, func(t *testing.T) {
			base, err := layer.NewIndex([]layer.Entry{{Type: layer.Dir, Mode: 0o755}, {Path: "etc", Type: layer.Dir, Mode: 0o755}})
			must(t, err)
			info := bake.LayerInfo{CreatedBy: "step"}
			made, err := open(t).Checkpoint(t.Context(), layer.NewTree(base), c.delta, Policy{}, info)
			if !errors.Is(err, c.want) || (err == nil) != (made.Layer != nil) || err == nil && made.CreatedBy != "step" {
				t.Errorf("got %+v, %v", made, err)
			}
		})
	}

	// What refuses the stream ends the delta, and is the error.
	base, err := layer.NewIndex(nil)
	must(t, err)
	endless := func(w io.Writer) error {
		for {
			if _, err := io.WriteString(w, strings.Repeat("no tar ", 1000)); err != nil {
				return err
			}
		}
	}
	if _, err := open(t).Checkpoint(t.Context(), layer.NewTree(base), endless, Policy{}, bake.LayerInfo{}); err == nil {
		t.Error("no error for what is no tar")
	}
}
