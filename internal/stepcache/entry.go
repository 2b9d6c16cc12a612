package stepcache

import (
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/imgbake/imgbake-action/internal/bake"
)

// entry is a checkpoint as it is kept. There is no value of the template in
// it: the key is a digest, and paths are what a step wrote.
type entry struct {
	Key     string   `json:"key,omitempty"`
	Layer   *blob    `json:"layer,omitempty"`
	Rest    *blob    `json:"rest,omitempty"`
	Removed []string `json:"removed,omitempty"`
}

// blob is a layer as an entry names it.
type blob struct {
	MediaType types.MediaType `json:"mediaType"`
	Digest    v1.Hash         `json:"digest"`
	Size      int64           `json:"size"`
	DiffID    v1.Hash         `json:"diffID"`
}

// newEntry describes a checkpoint.
func newEntry(key string, made bake.Checkpoint) (e entry, err error) {
	e = entry{Key: key, Removed: made.Removed}
	if e.Layer, err = describe(made.Layer); err != nil {
		return e, err
	}
	e.Rest, err = describe(made.Rest)
	return e, err
}

func describe(l v1.Layer) (*blob, error) {
	if l == nil {
		return nil, nil
	}
	var b blob
	var err error
	if b.Digest, err = l.Digest(); err != nil {
		return nil, err
	}
	if b.DiffID, err = l.DiffID(); err != nil {
		return nil, err
	}
	if b.Size, err = l.Size(); err != nil {
		return nil, err
	}
	b.MediaType, err = l.MediaType()
	return &b, err
}

// blobs are the entry's layers.
func (e entry) blobs() (list []*blob) {
	for _, b := range []*blob{e.Layer, e.Rest} {
		if b != nil {
			list = append(list, b)
		}
	}
	return list
}

// same reports whether two entries stand for the same bytes.
func (e entry) same(o entry) bool {
	return e.Key == o.Key && e.Layer.same(o.Layer) && e.Rest.same(o.Rest)
}

func (b *blob) same(o *blob) bool {
	if b == nil || o == nil {
		return b == o
	}
	return b.Digest == o.Digest && b.DiffID == o.DiffID
}

// checkpoint makes the entry's checkpoint of layers that find gives.
func (e entry) checkpoint(find func(blob) (v1.Layer, bool)) (bake.Checkpoint, bool) {
	made := bake.Checkpoint{Removed: e.Removed}
	ok := true
	for _, part := range []struct {
		from *blob
		to   *v1.Layer
	}{{e.Layer, &made.Layer}, {e.Rest, &made.Rest}} {
		if part.from != nil && ok {
			*part.to, ok = find(*part.from)
		}
	}
	return made, ok
}
