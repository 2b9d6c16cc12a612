package layer

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"testing"
)

// descriptors notes how many are open while a tar is read.
type descriptors struct {
	io.Reader
	most int
}

func (d *descriptors) Read(p []byte) (int, error) {
	open, err := os.ReadDir("/proc/self/fd")
	d.most = max(d.most, len(open))
	if err != nil {
		return 0, err
	}
	return d.Reader.Read(p[:min(len(p), 64<<10)])
}

// A layer of many directories, in an order that visits none twice in a row, and
// of an opaque one whose directories are its own, keeps few of them open.
func TestApplyKeepsFewOpen(t *testing.T) {
	var headers []tar.Header
	for i := range 1000 {
		headers = append(headers, dir(fmt.Sprintf("d/%d/", i)))
	}
	for i := range 2000 {
		headers = append(headers, file(fmt.Sprintf("d/%d/f%d", i%1000, i)))
	}
	headers = append(headers, file("d/.wh..wh..opq"), sym("d/7/l", ".."), file("d/7/l/8/last"))
	data := tarOf(t, headers...)
	root := newTree(t)
	root.write("d/old/x", "x")
	r, err := os.OpenRoot(root.root)
	must(t, err)
	defer r.Close()
	in := &descriptors{Reader: bytes.NewReader(data)}
	must(t, Apply(t.Context(), in, r, ApplyOptions{Layer: true, Xattrs: true}))
	if in.most > maxOpen+50 {
		t.Errorf("%d descriptors were open", in.most)
	}
	if x := root.scan(); x.Len() != 1+1+1000+2000+2 {
		t.Errorf("%d entries", x.Len())
	}
	if _, ok := root.lookup("d/8/last"); !ok {
		t.Error("the file behind a link is elsewhere")
	}
}
