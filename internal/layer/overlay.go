package layer

// newGroup marks the name of a link group until the index is made, so that it
// cannot be taken for one of the base.
const newGroup = "\x00"

// overlay is an index with edits on top.
type overlay struct {
	base  *Index
	edits map[string]Entry
	gone  map[string]bool
}

func (o *overlay) lookup(p string) (Entry, bool) {
	if e, ok := o.edits[p]; ok {
		return e, true
	}
	if anyAbove(o.gone, p) {
		return Entry{}, false
	}
	return o.base.Lookup(p)
}

func (o *overlay) set(e Entry) {
	if was, ok := o.lookup(e.Path); ok && was.Type == Dir && e.Type != Dir {
		o.remove(e.Path)
	}
	if o.edits == nil {
		o.edits = map[string]Entry{}
	}
	o.edits[e.Path] = e
}

func (o *overlay) remove(p string) {
	if o.gone == nil {
		o.gone = map[string]bool{}
	}
	o.gone[p] = true
}

// index is the base with the edits.
func (o *overlay) index() *Index { return o.base.with(o.edits, o.gone) }
