package layer

import "io"

// layerWriter writes a layer that names every directory above what it changes.
// Engines that unpack a layer into a folder of its own would give those that it
// does not name a mode of their choice, and hide the right one behind it.
type layerWriter struct {
	*tarWriter
	epoch int64
	tree  *overlay        // what the directories are
	named map[string]bool // directories
}

func newLayerWriter(w io.Writer, epoch int64, tree *overlay) *layerWriter {
	return &layerWriter{newTarWriter(w), epoch, tree, map[string]bool{}}
}

// entry writes an entry's header after those of the directories above it.
func (w *layerWriter) entry(e Entry, link string) error {
	if err := w.parents(e.Path); err != nil {
		return err
	}
	if e.Type == Dir {
		w.named[e.Path] = true
	}
	return w.tarWriter.entry(e, link)
}

func (w *layerWriter) whiteout(p string) error {
	if err := w.parents(p); err != nil {
		return err
	}
	return w.tarWriter.whiteout(p)
}

func (w *layerWriter) parents(p string) error {
	for dir := range above(p) {
		if err := w.name(dir); err != nil {
			return err
		}
	}
	return nil
}

// name writes a directory as it is in the tree, once. What is in it changed, and
// so its time is that of all changes.
func (w *layerWriter) name(dir string) error {
	if w.named[dir] {
		return nil
	}
	w.named[dir] = true
	d, ok := w.tree.lookup(dir)
	if !ok || d.Type != Dir {
		return nil // the rest of what a file or nothing took the place of
	}
	d.ModTime = w.epoch
	w.tree.set(d)
	return w.tarWriter.entry(d, "")
}
