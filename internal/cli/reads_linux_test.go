package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/catalog"
)

// opens counts how often the files below a folder are opened, by anybody.
type opens struct {
	fd   int
	dirs map[int32]string
}

func watchOpens(t *testing.T, dir string) opens {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	o := opens{fd, map[int32]string{}}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		wd, err := unix.InotifyAddWatch(fd, path, unix.IN_OPEN)
		o.dirs[int32(wd)] = path
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// take gives how often each file was opened since it was asked last.
func (o opens) take(t *testing.T) map[string]int {
	t.Helper()
	counts := map[string]int{}
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Read(o.fd, buf)
		if err == unix.EAGAIN {
			return counts
		}
		if err != nil {
			t.Fatal(err)
		}
		for at := 0; at < n; {
			event := (*unix.InotifyEvent)(unsafe.Pointer(&buf[at]))
			name := buf[at+unix.SizeofInotifyEvent:][:event.Len]
			at += unix.SizeofInotifyEvent + int(event.Len)
			if event.Mask&unix.IN_Q_OVERFLOW != 0 {
				t.Fatal("there were more than the kernel keeps")
			}
			if event.Mask&unix.IN_ISDIR == 0 {
				counts[filepath.Join(o.dirs[event.Wd], string(bytes.TrimRight(name, "\x00")))]++
			}
		}
	}
}

// baking is a folder with a template, and files that it may copy into images.
type baking struct {
	t   *testing.T
	dir string
}

const copying = `
images:
  web:
    builders: { oci: { scratch: true } }
    provisioners:
      - file: { source: in, destination: /in, exclude: ["*.log"] }
      - file: { source: one, destination: /one }
`

func newBaking(t *testing.T, template string) baking {
	files := map[string]string{"imgbake.yaml": template, "one": "1", "in/empty": "", "in/link": "->f1", "in/noise.log": "x"}
	for i := range 200 {
		files[fmt.Sprintf("in/d%d/f%d", i%9, i)] = strings.Repeat(fmt.Sprint(i), i)
	}
	return baking{t, tree(t, files)}
}

// run runs a command, and gives its exit code and what it wrote.
func (b baking) run(args ...string) (int, string, string) {
	b.t.Helper()
	var out, errs bytes.Buffer
	store := filepath.Join(b.dir, ".store")
	app := App{
		Version: "test", Catalog: catalog.All, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, Dir: b.dir, Now: time.Now,
		Environ: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + b.dir, "IMGBAKE_CACHE_DIR=" + store, "DOCKER_HOST=unix://" + filepath.Join(b.dir, "no.sock")},
	}
	code := app.Main(b.t.Context(), args)
	return code, out.String(), errs.String()
}

// build bakes, and gives what was said and the digests of what was read.
func (b baking) build(args ...string) (said string, digests map[string]string) {
	b.t.Helper()
	record := filepath.Join(b.t.TempDir(), "record.json")
	code, out, errs := b.run(append([]string{"build", "--load=false", "--engine=oci", "--record", record}, args...)...)
	if code != ExitDone {
		b.t.Fatalf("exit code %d\n%s%s", code, out, errs)
	}
	var read struct {
		Bakes []struct {
			Materials []struct{ Kind, Name, Digest string }
		}
	}
	data, err := os.ReadFile(record)
	if err == nil {
		err = json.Unmarshal(data, &read)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	digests = map[string]string{}
	for _, m := range read.Bakes[0].Materials {
		if m.Kind == "file" {
			digests[m.Name] = m.Digest
		}
	}
	return out + errs, digests
}

// A bake reads each file once, be it the first of a machine or one that shall use no
// cache, and tells the digests of what it read.
func TestEachFileIsReadOnce(t *testing.T) {
	b := newBaking(t, copying)
	files := folderOf(t, b.dir)
	want := map[string]string{}
	for name, exclude := range map[string][]string{"in": {"*.log"}, "one": nil} {
		digest, err := digestNow(files, bake.Input{Path: name, Exclude: exclude})
		if err != nil {
			t.Fatal(err)
		}
		want[name] = digest
	}
	opened := watchOpens(t, filepath.Join(b.dir, "in"))
	for _, args := range [][]string{nil, {"--no-cache"}, nil} {
		said, digests := b.build(args...)
		if !maps.Equal(digests, want) {
			t.Errorf("%q: digests %v, want %v", args, digests, want)
		}
		counts := opened.take(t)
		if most := slices.Max(slices.Collect(maps.Values(counts))); len(counts) != 201 || most != 1 {
			t.Errorf("%q: %d files were opened, one of them %d times\n%s", args, len(counts), most, said)
		}
	}
	if code, out, errs := b.run("explain"); code != ExitDone || strings.Count(out, "  hit ") != 2 {
		t.Errorf("explain: %s%s", out, errs)
	}
	tick(t, b.dir)
	if err := os.WriteFile(filepath.Join(b.dir, "one"), []byte("2"), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, out, errs := b.run("explain"); code != ExitDone || strings.Count(out, "  hit ") != 1 || !strings.Contains(out, "file one: sha256:") {
		t.Errorf("explain: %s%s", out, errs)
	}
	if _, digests := b.build(); digests["in"] != want["in"] || digests["one"] == want["one"] {
		t.Errorf("a file changed: %v", digests)
	}
}

// Two bakes of the same files each read them once, and nobody else does.
func TestTwoBakesOfTheSameFiles(t *testing.T) {
	b := newBaking(t, copying+strings.Replace(strings.TrimPrefix(copying, "\nimages:\n"), "web", "other", 1))
	opened := watchOpens(t, filepath.Join(b.dir, "in"))
	b.build()
	counts, total := opened.take(t), 0
	for _, n := range counts {
		total += n
	}
	if len(counts) != 201 || total > 2*201+5 { // one bake may be done while the other is in the middle of a file
		t.Errorf("%d files were opened, %d times in all", len(counts), total)
	}
	if said, _ := b.build(); strings.Count(said, "from the cache") != 4 {
		t.Errorf("the next bake:\n%s", said)
	}
}

// A file that changes while it is baked is named, and the step not kept.
func TestChangedWhileItIsBaked(t *testing.T) {
	const change = "\n      - shell-local: { inline: ['echo \"$$\" again >> in/d0/f0'], cache: always }\n"
	b := newBaking(t, strings.Replace(copying, "provisioners:", "layers: squash\n    provisioners:", 1)+change)
	for range 2 {
		said, digests := b.build()
		if !strings.Contains(said, `file "in": in/d0/f0 changed while it was baked: step 3 is not kept in the cache`) || strings.Contains(said, "from the cache") {
			t.Errorf("it is not said, or kept:\n%s", said)
		}
		if digests["in"] != "" || digests["one"] == "" {
			t.Errorf("digests %v", digests)
		}
	}
}

const changedOne = `file "one": one changed while it was baked: `

// write puts a file into the folder, at another time than what is there.
func (b baking) write(name, content string) {
	b.t.Helper()
	tick(b.t, b.dir)
	if err := os.WriteFile(filepath.Join(b.dir, name), []byte(content), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// A file that two steps copy, and that changes between them, is not kept as what it
// was for the first of them.
func TestChangedBetweenTwoSteps(t *testing.T) {
	b := newBaking(t, `
images:
  web:
    builders: { oci: { scratch: true } }
    provisioners:
      - file: { source: one, destination: /a }
      - shell-local: { inline: ['echo changed >> one'], cache: always }
      - file: { source: one, destination: /b }
      - file: { content: "x", destination: /c }
`)
	tick(t, b.dir)
	said, digests := b.build()
	if strings.Count(said, changedOne+"step 3 and those after it are not kept in the cache") != 1 || digests["one"] != "" {
		t.Errorf("it is not said once: %v\n%s", digests, said)
	}
	b.write("one", "1")
	if said, _ := b.build(); strings.Count(said, "from the cache") != 2 || strings.Contains(said, "changed while") {
		t.Errorf("the first steps were right:\n%s", said)
	}
	if said, _ := b.build(); strings.Count(said, "from the cache") != 4 {
		t.Errorf("all is kept now:\n%s", said)
	}
}

// Nor is it as what it was for another bake, whose post-processor changes it.
func TestChangedBetweenTwoBakes(t *testing.T) {
	b := newBaking(t, `
images:
  first:
    builders: { oci: { scratch: true } }
    provisioners:
      - file: { source: one, destination: /a }
    post_processors:
      - shell-local: { inline: ['echo changed >> one'] }
  second:
    builders: { oci: { scratch: true } }
    provisioners:
      - file: { source: one, destination: /b }
`)
	tick(t, b.dir)
	if said, digests := b.build("--parallel-builds=1"); strings.Count(said, changedOne+"step 1 is not kept in the cache") != 1 || digests["one"] != "" {
		t.Errorf("it is not said once: %v\n%s", digests, said)
	}
	b.write("one", "1")
	if said, _ := b.build("--parallel-builds=1", "--only=second*"); strings.Contains(said, "from the cache") {
		t.Errorf("another content is taken:\n%s", said)
	}
}

// Nor where the key was made before the machine was started.
func TestChangedAfterItsKey(t *testing.T) {
	b := newBaking(t, `
images:
  web:
    builders: { oci: { scratch: true } }
    layers: squash
    provisioners:
      - shell-local: { inline: ['if [ -e later ]; then cp later one; fi'], cache: always }
      - file: { source: one, destination: /one }
`)
	b.build() // the sketch is known now
	b.write("one", "2")
	b.write("later", "3")
	if said, digests := b.build(); strings.Count(said, changedOne+"step 2 is not kept in the cache") != 1 || digests["one"] != "" {
		t.Errorf("it is not said once: %v\n%s", digests, said)
	}
	if err := os.Remove(filepath.Join(b.dir, "later")); err != nil {
		t.Fatal(err)
	}
	b.write("one", "2")
	if said, _ := b.build(); strings.Contains(said, "from the cache") || strings.Contains(said, "changed while") {
		t.Errorf("another content is taken:\n%s", said)
	}
	if said, _ := b.build(); strings.Count(said, "from the cache") != 2 {
		t.Errorf("it is kept now:\n%s", said)
	}
}

// A log that is written into the folder, and left out, changes nothing.
func TestLogInTheFolder(t *testing.T) {
	b := newBaking(t, `
images:
  web:
    builders: { oci: { scratch: true } }
    provisioners:
      - file: { source: in, destination: /in, exclude: ["*.log"] }
      - shell-local: { inline: ['echo "$$" > in/$$.log'], cache: always }
      - file: { source: in, destination: /again, exclude: ["*.log"] }
`)
	tick(t, b.dir)
	if said, digests := b.build(); strings.Contains(said, "changed while") || digests["in"] == "" {
		t.Errorf("%v\n%s", digests, said)
	}
	if said, _ := b.build(); strings.Count(said, "from the cache") != 3 {
		t.Errorf("it is not kept:\n%s", said)
	}
}

// Where the sketch is known, and what is in the files decides, they are read for the
// key, and by the step once more.
func TestFilesOfAKnownSketch(t *testing.T) {
	b := newBaking(t, copying)
	b.build()
	b.write("in/d0/f0", "other")
	opened := watchOpens(t, filepath.Join(b.dir, "in"))
	if said, _ := b.build(); strings.Contains(said, "changed while") {
		t.Errorf("nothing did:\n%s", said)
	}
	for name, n := range opened.take(t) {
		if n != 2 { // for the key, and by the step
			t.Errorf("%s was opened %d times", name, n)
		}
	}
}

// The plan that is printed has all digests, and what is not there is told of before
// anything runs.
func TestPlanAndItsFiles(t *testing.T) {
	b := newBaking(t, copying)
	if code, out, errs := b.run("plan"); code != ExitDone || strings.Count(out, `"digest": "sha256:`) != 2 {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
	if err := os.Remove(filepath.Join(b.dir, "one")); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"plan", "validate", "build", "explain"} {
		if code, out, errs := b.run(command); code != ExitTemplate || !strings.Contains(out+errs, `imgbake.yaml:7:25`) || !strings.Contains(out+errs, `file "one" is not there`) {
			t.Errorf("%s: exit code %d\n%s%s", command, code, out, errs)
		}
	}
}
