package store

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	gcrrandom "github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/imgbake/imgbake-action/internal/bake"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T) *Store {
	t.Helper()
	s, err := Open(t.TempDir())
	must(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func tarOf(t *testing.T, name, content string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	must(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content))}))
	_, err := io.WriteString(w, content)
	must(t, err)
	must(t, w.Close())
	return b.Bytes()
}

func putLayer(t *testing.T, s *Store, plain []byte) v1.Layer {
	t.Helper()
	return packed(t, s, bake.Gzip, plain)
}

func packed(t *testing.T, s *Store, c bake.Compression, plain []byte) v1.Layer {
	t.Helper()
	w, err := s.NewLayer(t.Context(), c)
	must(t, err)
	defer w.Abort()
	_, err = w.Write(plain)
	must(t, err)
	l, err := w.Commit()
	must(t, err)
	return l
}

// unfinished lists the temporary files of all processes.
func unfinished(t *testing.T, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "tmp", "*", "*"))
	must(t, err)
	return found
}

func TestLayerRoundTrip(t *testing.T) {
	s := open(t)
	l := putLayer(t, s, tarOf(t, "etc/x", "content"))
	must(t, validate.Layer(l))
	digest, err := l.Digest()
	must(t, err)
	again, err := s.Layer(digest)
	must(t, err)
	must(t, validate.Layer(again))
	if mt, _ := again.MediaType(); mt != types.OCILayer {
		t.Errorf("media type = %s", mt)
	}
	if left := unfinished(t, s.Dir()); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	if _, err := s.Layer(v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("0", 64)}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing layer: %v", err)
	}
	if _, err := s.Layer(v1.Hash{Algorithm: "sha256", Hex: "../../../etc/passwd"}); err == nil {
		t.Error("a path was taken for a digest")
	}
}

// text is compressible and the same every time.
func text(n int) []byte {
	random := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	for b.Len() < n {
		fmt.Fprintf(&b, "word%d ", random.IntN(5000))
	}
	return b.Bytes()[:n]
}

func TestLayerBytesDoNotDependOnTheMachine(t *testing.T) {
	plain := text(5 << 20)
	var size int64
	for _, c := range []bake.Compression{bake.Zstd, bake.Gzip} {
		digests := map[v1.Hash]bool{}
		for _, procs := range []int{1, 2, 7} {
			before := runtime.GOMAXPROCS(procs) // a store looks at it when it is opened
			s := open(t)
			runtime.GOMAXPROCS(before)
			w, err := s.NewLayer(t.Context(), c)
			must(t, err)
			for rest := plain; len(rest) > 0; { // in pieces of another size each time
				n := min(len(rest), 1000*procs+1)
				_, err := w.Write(rest[:n])
				must(t, err)
				rest = rest[n:]
			}
			l, err := w.Commit()
			must(t, err)
			digest, _ := l.Digest()
			digests[digest] = true
			size, _ = l.Size()
		}
		if len(digests) != 1 {
			t.Errorf("%s: %d digests of one content", c, len(digests))
		}
	}
	gzip, err := exec.LookPath("gzip")
	if err != nil {
		t.Skip("gzip is not there to compare with")
	}
	cmd := exec.Command(gzip, "-6", "-n", "-c")
	cmd.Stdin = bytes.NewReader(plain)
	out, err := cmd.Output()
	must(t, err)
	if limit := int64(len(out)) * 105 / 100; size > limit {
		t.Errorf("layer has %d bytes, gzip -6 makes %d", size, len(out))
	}
}

func TestAbort(t *testing.T) {
	s := open(t)
	w, err := s.NewLayer(t.Context(), bake.Gzip)
	must(t, err)
	_, err = w.Write(text(3 << 20))
	must(t, err)
	w.Abort()
	w.Abort()
	if left := unfinished(t, s.Dir()); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	ctx, cancel := context.WithCancel(t.Context())
	w, err = s.NewLayer(ctx, bake.Gzip)
	must(t, err)
	cancel()
	if _, err := w.Write([]byte("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("write after cancel: %v", err)
	}
	if _, err := w.Commit(); !errors.Is(err, context.Canceled) {
		t.Errorf("commit after cancel: %v", err)
	}
	if left := unfinished(t, s.Dir()); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

func TestDamageIsSeen(t *testing.T) {
	s := open(t)
	l := putLayer(t, s, tarOf(t, "x", "content"))
	digest, _ := l.Digest()
	path, err := s.blobPath(digest)
	must(t, err)
	data, err := os.ReadFile(path)
	must(t, err)
	data[len(data)-1] ^= 1
	must(t, os.WriteFile(path, data, 0o644))
	later, err := Open(s.Dir()) // as another process, which has not hashed it itself
	must(t, err)
	defer later.Close()
	l, err = later.Layer(digest)
	must(t, err)
	rc, err := l.Compressed()
	must(t, err)
	defer rc.Close()
	if _, err := io.Copy(io.Discard, rc); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("reading a damaged layer: %v", err)
	}
	if _, err := later.Layer(digest); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a damaged layer is dropped, to be made anew: %v", err)
	}
}

func TestImage(t *testing.T) {
	s := open(t)
	base, err := gcrrandom.Image(1000, 2)
	must(t, err)
	img, err := mutate.AppendLayers(base, putLayer(t, s, tarOf(t, "srv/x", "content")))
	must(t, err)
	digest, err := s.PutImage(img)
	must(t, err)
	if want, _ := img.Digest(); digest != want {
		t.Errorf("digest = %s, want %s", digest, want)
	}
	sparse, err := s.Image(digest, nil)
	must(t, err)
	layers, err := sparse.Layers()
	must(t, err)
	if _, err := layers[0].Compressed(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reading a missing layer: %v", err)
	}
	must(t, validate.Layer(layers[2]))
	index, err := os.ReadFile(filepath.Join(s.Dir(), "index.json"))
	must(t, err)
	if !strings.Contains(string(index), sparseMark) {
		t.Errorf("index.json does not mark the image as sparse: %s", index)
	}

	full, err := s.Image(digest, func(desc v1.Descriptor, diffID v1.Hash) (v1.Layer, error) { return base.LayerByDigest(desc.Digest) })
	must(t, err)
	must(t, validate.Image(full))
	for _, l := range mustLayers(t, full) {
		_, err := s.PutLayer(t.Context(), l)
		must(t, err)
	}
	_, err = s.PutImage(full)
	must(t, err)
	complete, err := s.Image(digest, nil)
	must(t, err)
	must(t, validate.Image(complete))
	index, _ = os.ReadFile(filepath.Join(s.Dir(), "index.json"))
	if strings.Contains(string(index), sparseMark) || strings.Count(string(index), digest.Hex) != 1 {
		t.Errorf("index.json = %s", index)
	}
	path, err := layout.FromPath(s.Dir()) // others read it too
	must(t, err)
	other, err := path.Image(digest)
	must(t, err)
	must(t, validate.Image(other))
}

func mustLayers(t *testing.T, img v1.Image) []v1.Layer {
	t.Helper()
	layers, err := img.Layers()
	must(t, err)
	return layers
}

// wrongLayer claims another content than it has.
type wrongLayer struct{ v1.Layer }

func (wrongLayer) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader("something else")), nil
}

func TestPutLayerChecksContent(t *testing.T) {
	s := open(t)
	l, err := gcrrandom.Layer(100, types.DockerLayer)
	must(t, err)
	if _, err := s.PutLayer(t.Context(), wrongLayer{l}); err == nil {
		t.Error("a layer with another content than its digest was accepted")
	}
	if left := unfinished(t, s.Dir()); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

func TestFiles(t *testing.T) {
	s := open(t)
	img, err := mutate.AppendLayers(empty.Image, putLayer(t, s, tarOf(t, "srv/www/index", "hello")))
	must(t, err)
	r, err := Files(t.Context(), img, "/srv/www")
	must(t, err)
	defer r.Close()
	in := tar.NewReader(r)
	var names []string
	for h, err := in.Next(); err == nil; h, err = in.Next() {
		names = append(names, h.Name)
	}
	if got := strings.Join(names, " "); got != "www/ www/index" {
		t.Errorf("names = %s", got)
	}
}

func TestWriteLayout(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "layout")
	one, err := gcrrandom.Image(100, 1)
	must(t, err)
	two, err := gcrrandom.Image(100, 2)
	must(t, err)
	must(t, WriteLayout(t.Context(), dir, Named{Name: "app:1", Image: one}, Named{Image: two}))
	must(t, WriteLayout(t.Context(), dir, Named{Name: "app:1", Image: two}, Named{Image: two}))
	index, err := layout.ImageIndexFromPath(dir)
	must(t, err)
	must(t, validate.Index(index))
	manifest, err := partial.Descriptor(index)
	must(t, err)
	if manifest.Size == 0 {
		t.Error("empty index")
	}
	im, err := index.IndexManifest()
	must(t, err)
	for _, d := range im.Manifests {
		if want, _ := two.Digest(); d.Digest != want {
			t.Errorf("image %s is left in %v", d.Digest, im.Manifests)
		}
	}
}

func TestCache(t *testing.T) {
	s := open(t)
	if _, ok := s.Cached("index", "k"); ok {
		t.Error("found what was not put")
	}
	for _, value := range []string{"one", "two", ""} {
		must(t, s.PutCached("index", "k", []byte(value)))
		if got, ok := s.Cached("index", "k"); !ok || string(got) != value {
			t.Errorf("got %q, %v, want %q", got, ok, value)
		}
	}
	if _, ok := s.Cached("other", "k"); ok {
		t.Error("kinds share values")
	}
	must(t, s.PutCached("../../x", "k", nil))
	must(t, os.WriteFile(s.cachePath("index", "k"), []byte("damaged damaged damaged damaged damaged"), 0o644))
	if _, ok := s.Cached("index", "k"); ok {
		t.Error("a damaged value was taken")
	}
	if _, err := os.Stat(s.path("x")); err == nil {
		t.Error("a kind led out of the cache")
	}
}

func TestParallelStores(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			s, err := Open(dir)
			if err != nil {
				t.Error(err)
				return
			}
			defer s.Close()
			l := putLayer(t, s, tarOf(t, "same", "content"))
			img, err := mutate.AppendLayers(empty.Image, l, putLayer(t, s, tarOf(t, fmt.Sprint(i), "own")))
			if err == nil {
				_, err = s.PutImage(img)
			}
			if err == nil {
				err = s.PutCached("k", "same key", []byte(fmt.Sprint(i)))
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	index, err := layout.ImageIndexFromPath(dir)
	must(t, err)
	must(t, validate.Index(index))
	im, _ := index.IndexManifest()
	if len(im.Manifests) != 8 {
		t.Errorf("%d images, want 8", len(im.Manifests))
	}
	if left, _ := os.ReadDir(filepath.Join(dir, "tmp")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// TestKilledProcess is the child of TestReap when told so by the environment.
func TestReap(t *testing.T) {
	if dir := os.Getenv("STORE_TEST_CHILD"); dir != "" {
		s, err := Open(dir)
		must(t, err)
		w, err := s.NewLayer(t.Context(), bake.Gzip)
		must(t, err)
		_, err = w.Write(text(3 << 20))
		must(t, err)
		fmt.Println("ready")
		_, _ = io.Copy(io.Discard, os.Stdin) // until killed
		runtime.KeepAlive(s)                 // its lock would go with it
	}
	dir := t.TempDir()
	child := exec.Command(os.Args[0], "-test.run=^TestReap$")
	child.Env = append(os.Environ(), "STORE_TEST_CHILD="+dir)
	_, err := child.StdinPipe()
	must(t, err)
	out, err := child.StdoutPipe()
	must(t, err)
	must(t, child.Start())
	line := make([]byte, 6)
	_, err = io.ReadFull(out, line)
	must(t, err)

	s, err := Open(dir)
	must(t, err)
	if len(unfinished(t, dir)) == 0 {
		t.Error("the files of a living process are gone")
	}
	if _, err := s.Prune(1, 0); !errors.Is(err, ErrInUse) {
		t.Errorf("prune while another process is there: %v", err)
	}
	must(t, s.Close())
	must(t, child.Process.Kill())
	child.Wait()
	s, err = Open(dir)
	must(t, err)
	defer s.Close()
	if left := unfinished(t, dir); len(left) > 0 {
		t.Errorf("files of a killed process are left: %q", left)
	}
}

func TestPrune(t *testing.T) {
	s := open(t)
	old := putLayer(t, s, tarOf(t, "old", "content"))
	img, err := mutate.AppendLayers(empty.Image, old)
	must(t, err)
	oldImage, err := s.PutImage(img)
	must(t, err)
	err = filepath.WalkDir(s.Dir(), func(path string, d fs.DirEntry, err error) error {
		long := time.Now().Add(-48 * time.Hour)
		return errors.Join(err, os.Chtimes(path, long, long))
	})
	must(t, err)
	fresh := putLayer(t, s, tarOf(t, "fresh", "content"))
	freed, err := s.Prune(0, 24*time.Hour)
	must(t, err)
	if freed == 0 {
		t.Error("nothing was freed")
	}
	if _, err := s.Image(oldImage, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old image: %v", err)
	}
	must(t, validate.Layer(fresh))
	if index, _ := os.ReadFile(s.path("index.json")); strings.Contains(string(index), oldImage.Hex) {
		t.Errorf("index.json still has the image: %s", index)
	}
	_, err = s.Prune(1, 0)
	must(t, err)
	if _, total, _ := s.usedFiles(); total > 1 {
		t.Errorf("%d bytes are left", total)
	}
}
