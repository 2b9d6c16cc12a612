package oci

import (
	"context"
	"fmt"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbake/imgbake-action/internal/layer"
	"github.com/imgbake/imgbake-action/internal/sandbox"
	"github.com/imgbake/imgbake-action/internal/store"
)

// baseLayers are the base's. None is fetched.
func (m *machine) baseLayers() ([]sandbox.Layer, error) {
	layers, err := m.builder.base.Layers()
	if err != nil {
		return nil, fmt.Errorf("base: %w", err)
	}
	if len(layers) != len(m.settings.RootFS.DiffIDs) {
		return nil, fmt.Errorf("base %s has %d layers and %d diff ids", m.name, len(layers), len(m.settings.RootFS.DiffIDs))
	}
	chain := make([]sandbox.Layer, len(layers))
	for i, l := range layers {
		digest, err := l.Digest()
		if err != nil {
			return nil, err
		}
		chain[i] = sandbox.Layer{Digest: digest.String(), DiffID: m.settings.RootFS.DiffIDs[i].String(), Open: l.Compressed}
	}
	return chain, nil
}

// fetch sees to it that the base's layers are in the store, unless they are
// unpacked already.
func (m *machine) fetch(ctx context.Context) error {
	roots, err := m.open()
	if err != nil {
		return err
	}
	if roots.Has(m.base) {
		return nil
	}
	layers, err := m.sources.Fetch(ctx, m.builder.base)
	if err != nil {
		return fmt.Errorf("fetching %s: %w", m.name, err)
	}
	for i, stored := range layers {
		m.base[i].Open = stored.Compressed
	}
	return nil
}

// chain is the base's layers and those of the checkpoints.
func (m *machine) chain() ([]sandbox.Layer, error) {
	chain := slices.Clone(m.base)
	for _, step := range m.done {
		for _, l := range []v1.Layer{step.Layer, step.Rest} {
			if l == nil {
				continue
			}
			diffID, err := l.DiffID()
			if err != nil {
				return nil, err
			}
			digest, err := l.Digest()
			if err != nil {
				return nil, err
			}
			chain = append(chain, sandbox.Layer{Digest: digest.String(), DiffID: diffID.String(), Open: l.Compressed})
		}
	}
	return chain, nil
}

// readTree makes the index of the base and of the checkpoints.
func (m *machine) readTree(ctx context.Context) error {
	index, err := m.baseIndex(ctx)
	if err != nil {
		return fmt.Errorf("reading the base's tree: %w", err)
	}
	m.tree = layer.NewTree(index)
	return store.Resume(ctx, m.tree, m.done)
}

// baseIndex finds or makes the index of the base's tree. One that is known of
// its lower layers, as of the image that a stage started from, is gone on from.
func (m *machine) baseIndex(ctx context.Context) (*layer.Index, error) {
	chain := m.base
	unlock, err := m.locks.Lock(ctx, "index "+indexKey(chain))
	if err != nil {
		return nil, err
	}
	defer unlock()
	index := &layer.Index{}
	var above []layer.Opener
	for known := len(chain); known > 0; known-- {
		if below := m.indexes.Find(indexKey(chain[:known])); below != nil {
			index = below
			break
		}
		above = append(above, chain[known-1].Open)
	}
	if len(above) == 0 && len(chain) > 0 {
		return index, nil
	}
	slices.Reverse(above)
	limits := layer.Limits{} // of a stranger's image; see start
	if m.job.From != nil {
		limits = layer.BakeLimits()
	}
	if index, err = index.Extend(ctx, limits, above...); err != nil {
		return nil, err
	}
	m.indexes.Keep(indexKey(chain), index)
	return index, nil
}

func indexKey(chain []sandbox.Layer) string {
	ids := make([]string, len(chain))
	for i, l := range chain {
		ids[i] = l.Digest
	}
	return strings.Join(ids, " ")
}
