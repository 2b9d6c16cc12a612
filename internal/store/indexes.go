package store

import (
	"bytes"
	"sync"

	"github.com/imgbake/imgbake-action/internal/layer"
)

// Indexes are the indexes of trees, by a key that stands for one tree. It is
// safe for concurrent use.
type Indexes struct {
	store *Store
	kind  string
	made  sync.Map // key to *layer.Index, of this process
}

// Indexes are those of a kind, a short word.
func (s *Store) Indexes(kind string) *Indexes { return &Indexes{store: s, kind: kind} }

// Find returns an index that was made in this process or kept by any; nil: there
// is none.
func (x *Indexes) Find(key string) *layer.Index {
	if index, ok := x.made.Load(key); ok {
		return index.(*layer.Index)
	}
	data, ok := x.store.Cached(x.kind, key)
	if !ok {
		return nil
	}
	index, err := layer.DecodeIndex(bytes.NewReader(data))
	if err != nil {
		return nil
	}
	x.made.Store(key, index)
	return index
}

// Note remembers an index for this process.
func (x *Indexes) Note(key string, index *layer.Index) { x.made.Store(key, index) }

// Keep remembers an index for all. A store that cannot be written costs time
// only.
func (x *Indexes) Keep(key string, index *layer.Index) {
	x.Note(key, index)
	var out bytes.Buffer
	if err := index.Encode(&out); err == nil {
		_ = x.store.PutCached(x.kind, key, out.Bytes())
	}
}
