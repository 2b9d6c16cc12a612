package stepcache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/plan"
	"github.com/imgbake/imgbake-action/internal/registry"
	"github.com/imgbake/imgbake-action/internal/run"
)

// Shared is the cache of this machine with others behind it, in registries.
// Whoever can write where From points to decides what is baked there: a job
// that runs what strangers wrote must write elsewhere than releases read.
type Shared struct {
	Local
	Client *registry.Client
	From   []plan.CacheRef // asked in turn; one tag for each bake and platform
	To     *plan.CacheRef  // nil: nothing is written
	// Life bounds reading layers, which goes on after the bake that found them.
	Life context.Context
}

// Open implements run.Cache.
func (c Shared) Open(_ context.Context, b plan.Bake) run.BakeCache {
	platform := b.Platform
	if platform == "" {
		platform = "linux/" + runtime.GOARCH
	}
	return &sharedBake{localBake: c.Local.open(b), shared: c, platform: platform, known: map[name.Tag]chains{}}
}

// sharedBake is one bake's view.
type sharedBake struct {
	*localBake
	shared   Shared
	platform string
	known    map[name.Tag]chains // what tags held when they were read
	chain    []entry             // of this bake
	layers   map[v1.Hash]v1.Layer
	remote   []*remoteLayer // that were given
	ran      bool           // a step was run, and not found
}

// Knows implements run.BakeCache: what registries have is told by keys alone.
func (c *sharedBake) Knows(ctx context.Context, sketch string) bool {
	return len(c.shared.From) > 0 || c.localBake.Knows(ctx, sketch)
}

// Find implements run.BakeCache: what this machine has comes first.
func (c *sharedBake) Find(ctx context.Context, key run.Key) (bake.Checkpoint, bool) {
	found, ok := c.localBake.Find(ctx, key)
	if !ok {
		if found, ok = c.ask(ctx, key); !ok {
			return found, false
		}
	}
	c.remember(key, found)
	return found, true
}

// ask looks in the registries. It transfers no layer.
func (c *sharedBake) ask(ctx context.Context, key run.Key) (bake.Checkpoint, bool) {
	for _, ref := range c.shared.From {
		e, ok := c.read(ctx, ref, false).find(key.ID, c.trusted)
		if !ok {
			continue
		}
		if err := c.put(key, e); err != nil {
			c.Notify(fmt.Sprintf("not kept in the cache: %v", err))
		}
		return e.checkpoint(func(b blob) (v1.Layer, bool) { return c.layer(b, ref), true })
	}
	return bake.Checkpoint{}, false
}

// trusted reports whether no layer of an entry was found damaged.
func (c *sharedBake) trusted(e entry) bool {
	for _, b := range e.blobs() {
		if _, here := c.stored(*b); here {
			continue
		}
		if _, damaged := c.Store.Cached(damagedKind, b.Digest.String()); damaged {
			return false
		}
	}
	return true
}

// layer is one that a repository has. It is fetched, into the store, when it is
// read.
func (c *sharedBake) layer(b blob, from plan.CacheRef) v1.Layer {
	if l, ok := c.stored(b); ok {
		c.used = append(c.used, l)
		return registry.Mountable(l, from.Repository)
	}
	l := &remoteLayer{blob: b, cache: c, from: from.Repository}
	c.remote = append(c.remote, l)
	return registry.Mountable(l, from.Repository)
}

// remember adds a checkpoint to what is to be written.
func (c *sharedBake) remember(key run.Key, made bake.Checkpoint) {
	e, err := newEntry(key.ID, made)
	if err != nil {
		c.Notify(fmt.Sprintf("step %d is not kept in the cache: %v", key.Step, err))
		return
	}
	c.chain = append(c.chain, e)
	if c.layers == nil {
		c.layers = map[v1.Hash]v1.Layer{}
	}
	for _, l := range []v1.Layer{made.Layer, made.Rest} {
		if l != nil {
			digest, _ := l.Digest() // newEntry has asked
			c.layers[digest] = l
		}
	}
}

// Keep implements run.BakeCache.
func (c *sharedBake) Keep(ctx context.Context, key run.Key, made bake.Checkpoint) {
	c.localBake.Keep(ctx, key, made)
	c.remember(key, made)
	c.ran = true
}

// read gives what a tag holds: nothing if it is not there, or not readable,
// which is said.
func (c *sharedBake) read(ctx context.Context, ref plan.CacheRef, anew bool) chains {
	tag := tagOf(ref, c.bake, c.platform)
	if known, ok := c.known[tag]; ok && !anew {
		return known
	}
	held, err := c.fetch(ctx, tag)
	var answer *registry.Error
	if err != nil && (!errors.As(err, &answer) || answer.Status != http.StatusNotFound) && ctx.Err() == nil {
		c.Notify(fmt.Sprintf("cache %s: %v", ref, err))
	}
	c.known[tag] = held
	return held
}

func (c *sharedBake) fetch(ctx context.Context, tag name.Tag) (chains, error) {
	img, _, err := c.shared.Client.Image(ctx, tag, v1.Platform{}, registry.Auth{})
	if err != nil {
		return chains{}, err
	}
	m, err := img.Manifest()
	if err != nil {
		return chains{}, err
	}
	if m.Config.MediaType != configType {
		return chains{}, fmt.Errorf("%s is no cache: its config is %q", tag, m.Config.MediaType)
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return chains{}, err
	}
	return parse(config)
}

// Close implements run.BakeCache: what the registry lacks is written.
func (c *sharedBake) Close(ctx context.Context, keys []run.Key) {
	c.localBake.Close(ctx, keys)
	if c.shared.To == nil || len(c.chain) == 0 || !c.ran && c.read(ctx, *c.shared.To, false).has(c.chain) {
		return
	}
	if err := c.write(ctx); err != nil {
		c.Notify(fmt.Sprintf("warning: the cache %s was not written: %v", *c.shared.To, err))
	}
}

// write pushes the bake's chain together with those of others. Should a layer
// of theirs be gone, it stands alone.
func (c *sharedBake) write(ctx context.Context) error {
	held := c.read(ctx, *c.shared.To, true) // others may have written meanwhile
	err := c.push(ctx, held.with(c.chain))
	if err != nil && len(held.Chains) > 0 && ctx.Err() == nil {
		err = c.push(ctx, chains{Writes: held.Writes}.with(c.chain))
	}
	return err
}

func (c *sharedBake) push(ctx context.Context, all chains) error {
	img, err := newImage(all, func(b blob) v1.Layer {
		if l, ok := c.layers[b.Digest]; ok {
			return l
		}
		return c.layer(b, *c.shared.To)
	})
	if err != nil {
		return err
	}
	if _, err := c.shared.Client.Push(ctx, c.shared.To.Repository, img, registry.Auth{}); err != nil {
		return err
	}
	return c.shared.Client.Tag(ctx, img, registry.Target{Tag: tagOf(*c.shared.To, c.bake, c.platform)})
}

// Check implements run.BakeCache. Of layers in registries it knows whether
// reading them failed: it fetches none.
func (c *sharedBake) Check(ctx context.Context) error {
	problems := []error{c.localBake.Check(ctx)}
	for _, l := range c.remote {
		l.mu.Lock()
		err := l.failed
		l.mu.Unlock()
		if err != nil && ctx.Err() == nil {
			digest := l.blob.Digest.String()
			problems = append(problems, err, c.Store.PutCached(damagedKind, digest, []byte(digest)))
		}
	}
	return errors.Join(problems...)
}

// remoteLayer is a layer that is fetched when it is read.
type remoteLayer struct {
	blob
	cache *sharedBake
	from  name.Repository

	mu     sync.Mutex // held while it is fetched
	failed error      // why the last fetch did
}

// Digest is the hash of the compressed layer.
func (l *remoteLayer) Digest() (v1.Hash, error) { return l.blob.Digest, nil }

// DiffID is the hash of the plain layer.
func (l *remoteLayer) DiffID() (v1.Hash, error) { return l.blob.DiffID, nil }

// Size is the size of the compressed layer.
func (l *remoteLayer) Size() (int64, error) { return l.blob.Size, nil }

// MediaType is the layer's.
func (l *remoteLayer) MediaType() (types.MediaType, error) { return l.blob.MediaType, nil }

// Compressed fetches the layer and opens it as it is stored.
func (l *remoteLayer) Compressed() (io.ReadCloser, error) {
	stored, err := l.fetch()
	if err != nil {
		return nil, err
	}
	return stored.Compressed()
}

// Uncompressed fetches the layer and opens the plain tar.
func (l *remoteLayer) Uncompressed() (io.ReadCloser, error) {
	stored, err := l.fetch()
	if err != nil {
		return nil, err
	}
	return stored.Uncompressed()
}

// fetch brings the layer into the store.
func (l *remoteLayer) fetch() (v1.Layer, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	stored, err := l.cache.Store.Layer(l.blob.Digest)
	if err != nil {
		stored, err = l.transfer()
	}
	if err != nil {
		err = fmt.Errorf("cached layer %s of %s: %w", l.blob.Digest, l.from, err)
	}
	l.failed = err
	return stored, err
}

// transfer fetches the layer. A diff ID that is not the layer's would make an
// image that nobody can run: it is checked once.
func (l *remoteLayer) transfer() (v1.Layer, error) {
	shared, s := l.cache.shared, l.cache.Store
	remote, err := shared.Client.Layer(shared.Life, l.from.Digest(l.blob.Digest.String()), registry.Auth{})
	if err != nil {
		return nil, err
	}
	if _, err = s.PutLayer(shared.Life, said{remote, l.blob.DiffID}); err != nil {
		return nil, err
	}
	stored, err := s.Layer(l.blob.Digest)
	if err != nil {
		return nil, err
	}
	diffID, err := stored.DiffID()
	if err == nil && diffID != l.blob.DiffID {
		err = fmt.Errorf("it has the diff ID %s, its entry says %s", diffID, l.blob.DiffID)
	}
	return stored, err
}

// said is a layer whose diff ID is not computed.
type said struct {
	v1.Layer
	diffID v1.Hash
}

// DiffID is what is said.
func (l said) DiffID() (v1.Hash, error) { return l.diffID, nil }
