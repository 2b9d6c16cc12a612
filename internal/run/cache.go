package run

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"sync"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/plan"
	"github.com/imgbake/imgbake-action/internal/value"
)

// Cache keeps what steps did, so that a later run need not do it again.
type Cache interface {
	// Open is the cache as one bake sees it.
	Open(ctx context.Context, b plan.Bake) BakeCache
}

// BakeCache is one bake's view of a Cache. What it cannot do costs time only,
// so it reports problems by itself and not here.
type BakeCache interface {
	// Knows reports whether a step of this sketch may have been kept, whatever
	// was in its files. It is asked before they are read for a key.
	Knows(ctx context.Context, sketch string) bool
	// Find gives the checkpoint of a key. Its layers may have to be fetched
	// when they are read.
	Find(ctx context.Context, key Key) (bake.Checkpoint, bool)
	// Keep remembers the checkpoint of a key.
	Keep(ctx context.Context, key Key, made bake.Checkpoint)
	// Close writes what is to be written elsewhere. It is called once, when
	// the bake has succeeded, with the keys of all steps or of those up to the
	// first that may not be cached; with none if they could not be made.
	Close(ctx context.Context, keys []Key)
	// Check is called when a bake failed that had something of the cache. It
	// reads all that was given or kept, sees to it that what is damaged is not
	// given again, and returns what it found; nil: nothing is damaged.
	Check(ctx context.Context) error
}

// Key identifies a tree: the source and every step so far with all they depend
// on, but for the values of secrets.
type Key struct {
	ID     string // SHA-256, as hex
	Sketch string // likewise, but for what is in the host's files
	Step   int    // the last step, from 1
	Of     Inputs // what ID is made of, besides the key before
}

// Inputs are what a step's result depends on, by name: what a key is made of,
// and what explains a miss.
type Inputs map[string]string

// fileInput begins the names of inputs that are digests of the host's files.
const fileInput = "file "

// keyVersion changes when the same inputs shall no longer give the same keys.
const keyVersion = "1"

// stepCache is what a bake has in the cache.
type stepCache struct {
	BakeCache
	keyring
	done []bake.Checkpoint
	warn func(text string)
	lost bool // nobody can say what later steps are made of, and that was said
}

// hash has the digests made of what the steps up to one have read. The function
// that is returned waits for them; why there are none is told by keep.
func (c *stepCache) hash(step int) (wait func()) {
	if c == nil || c.lost || step >= len(c.steps) {
		return func() {}
	}
	var hashing sync.WaitGroup
	hashing.Go(func() {
		for i := max(len(c.done), c.checked); i <= step; i++ {
			for _, in := range c.steps[i].files {
				_, _ = in.Digest.Get()
			}
		}
	})
	return hashing.Wait
}

// keep remembers what a step did, unless it is one that may not be cached, or
// nobody can say any more what it was made of.
func (c *stepCache) keep(ctx context.Context, step int, a bake.Artifact) {
	if c == nil || c.lost || step < 0 || step >= len(c.steps) || len(a.Steps) == 0 || a.Steps[len(a.Steps)-1].Partial {
		return
	}
	key, err := c.key(step)
	if err == nil {
		err = c.read(max(len(c.done), c.checked), step)
	}
	if err != nil {
		c.lost = true
		which := fmt.Sprintf("step %d is", step+1)
		if step+1 < len(c.steps) {
			which = fmt.Sprintf("step %d and those after it are", step+1)
		}
		c.warn(fmt.Sprintf("%v: %s not kept in the cache", err, which))
		return
	}
	c.Keep(ctx, key, a.Steps[len(a.Steps)-1])
}

// close ends the cache's work after a bake that succeeded.
func (c *stepCache) close(ctx context.Context) {
	if c == nil {
		return
	}
	var keys []Key
	if !c.lost && c.all() == nil {
		keys = c.keys
	}
	c.Close(ctx, keys)
}

// cached finds how far an earlier bake came on the same source; nothing when
// the bake is done anew.
func (r *runner) cached(ctx context.Context, res *Result, source string) (*stepCache, error) {
	if r.Cache == nil || source == "" {
		return nil, nil
	}
	b := res.Bake
	keys, err := r.keys(ctx, b, source)
	if err != nil {
		return nil, err
	}
	c := &stepCache{BakeCache: r.Cache.Open(ctx, b), keyring: keys, warn: func(text string) {
		r.emit(b.Name, bake.Event{Type: bake.Warned, Text: text})
	}}
	if res.anew {
		return c, nil
	}
	if !r.each(b) { // one checkpoint for all steps, or none
		if last := len(c.steps) - 1; last >= 0 && last == len(b.Steps)-1 {
			r.find(ctx, c, b, last)
		}
		return c, nil
	}
	for i := range c.steps {
		if !r.find(ctx, c, b, i) {
			break
		}
	}
	return c, nil
}

// find adds the checkpoint of a step to those that are done. The host's files are
// read for it only where something may be found. One that cannot be read is the
// step's to tell.
func (r *runner) find(ctx context.Context, c *stepCache, b plan.Bake, step int) bool {
	if r.ignored(b, step) || !c.Knows(ctx, c.steps[step].sketch) {
		return false
	}
	key, err := c.key(step)
	if err != nil {
		return false
	}
	made, ok := c.Find(ctx, key)
	if ok {
		made.CreatedBy = r.createdBy(b, step)
		c.done = append(c.done, made)
	}
	return ok
}

// checkpoints are those of the steps that need not run again.
func (c *stepCache) checkpoints() []bake.Checkpoint {
	if c == nil {
		return nil
	}
	return c.done
}

// skipDone reports the steps that need not run again, and how many they are.
func (r *runner) skipDone(res *Result, c *stepCache) int {
	b, done := res.Bake, len(c.checkpoints())
	if done > 0 && !r.each(b) {
		done = len(b.Steps)
	}
	for i, s := range b.Steps[:done] {
		res.Steps = append(res.Steps, StepResult{Title: s.Title, Cached: true})
		r.emit(b.Name, bake.Event{Type: bake.StepFinished, Step: i + 1, Steps: len(b.Steps), Title: s.Title, Data: map[string]string{"cached": "true"}})
	}
	return done
}

// ignored reports whether the cache shall not be asked about a step.
func (r *runner) ignored(b plan.Bake, step int) bool {
	if r.NoCache {
		return true
	}
	if r.NoCacheFrom == "" {
		return false
	}
	for i := range step + 1 {
		if s := b.Steps[i]; r.NoCacheFrom == s.Title || r.NoCacheFrom == fmt.Sprint(i+1) {
			return true
		}
	}
	return false
}

// keyring has the keys of the steps up to the first that may not be cached.
type keyring struct {
	steps   []keyless
	keys    []Key // those made so far
	checked int   // steps that have read what their keys say
}

// keyless is a step whose files are not read yet.
type keyless struct {
	of     Inputs // without digests of files
	files  []plan.Input
	sketch string
}

// key makes the key of a step, and those that it is made of.
func (k *keyring) key(step int) (Key, error) {
	for i := len(k.keys); i <= step; i++ {
		s, before := k.steps[i], ""
		if i > 0 {
			before = k.keys[i-1].ID
		}
		of := maps.Clone(s.of)
		for _, in := range s.files {
			digest, err := in.Digest.Get()
			if err != nil {
				return Key{}, err
			}
			of[fileInput+in.Path] = digest
		}
		k.keys = append(k.keys, Key{ID: of.hash(before), Sketch: s.sketch, Step: i + 1, Of: of})
	}
	return k.keys[step], nil
}

// read is an error if one of the steps, which are done, has read other files than
// their keys are made of. What happens to those afterwards does not matter.
func (k *keyring) read(from, to int) error {
	for _, s := range k.steps[from : to+1] {
		for _, in := range s.files {
			if _, err := in.Digest.Get(); err != nil {
				return err
			}
		}
	}
	k.checked = to + 1
	return nil
}

// all makes the keys that are not made yet.
func (k *keyring) all() error {
	if len(k.steps) == 0 {
		return nil
	}
	_, err := k.key(len(k.steps) - 1)
	return err
}

// Sketches are those of steps whose keys were made of these inputs.
func Sketches(steps []Inputs) (sketches []string) {
	before := ""
	for _, of := range steps {
		before = of.sketch().hash(before)
		sketches = append(sketches, before)
	}
	return sketches
}

// sketch has the inputs without digests of files.
func (of Inputs) sketch() Inputs {
	of = maps.Clone(of)
	for name := range of {
		if strings.HasPrefix(name, fileInput) {
			of[name] = ""
		}
	}
	return of
}

// keys prepares those of the steps up to the first that may not be cached.
func (r *runner) keys(ctx context.Context, b plan.Bake, source string) (k keyring, err error) {
	seed := Inputs{
		"version": keyVersion, "source": source, "bake": b.Name, "image": b.Image, "builder": b.Builder, "type": b.Type,
		"platform": b.Platform, "layers": b.Layers, "keep": fmt.Sprintf("%q", b.Keep),
	}
	if b.Compression != "" {
		seed["compression"] = string(b.Compression)
	}
	if b.Epoch != nil {
		seed["SOURCE_DATE_EPOCH"] = fmt.Sprint(b.Epoch.Unix())
	}
	before := ""
	for i, s := range b.Steps {
		if !s.Cache {
			break
		}
		of, err := r.inputs(ctx, b, s)
		if err != nil {
			return k, err
		}
		if i == 0 {
			for name, text := range seed {
				of[name] = text
			}
		}
		before = of.hash(before)
		k.steps = append(k.steps, keyless{of, s.Inputs, before})
	}
	return k, nil
}

// inputs are what a step depends on by itself, but for what is in the host's files.
// Expressions that read secrets stand there as they are written.
func (r *runner) inputs(ctx context.Context, b plan.Bake, s plan.Step) (Inputs, error) {
	body, err := json.Marshal(placeless(s.Body.Plain()))
	if err != nil {
		return nil, fmt.Errorf("cache key: %w", err)
	}
	env, err := json.Marshal(placeless(s.Common.Env.Plain()))
	if err != nil {
		return nil, fmt.Errorf("cache key: %w", err)
	}
	of := Inputs{"provisioner": s.Type, "config": string(body), "env": string(env), "cache_key": s.Common.CacheKey}
	if len(s.Common.Mounts) > 0 {
		mounts, err := json.Marshal(placelessMounts(s.Common.Mounts))
		if err != nil {
			return nil, fmt.Errorf("cache key: %w", err)
		}
		of["mounts"] = string(mounts)
	}
	for _, in := range s.Inputs {
		of[fileInput+in.Path] = ""
	}
	if s.Reads != "" {
		digest, err := stages{r.bakes, b, r.Images}.Digest(ctx, s.Reads)
		if err != nil {
			return nil, err
		}
		of["image "+s.Reads] = digest
	}
	return of, nil
}

// placeless takes the places from expressions: a step that moves to another line
// is the same step.
func placeless(v any) any {
	switch v := v.(type) {
	case *value.Late:
		return value.Late{Expr: v.Expr, Needs: v.Needs}
	case []any:
		for i := range v {
			v[i] = placeless(v[i])
		}
	case map[string]any:
		for key := range v {
			v[key] = placeless(v[key])
		}
	}
	return v
}

// placelessMounts are mounts with what their contents are made of beside them.
func placelessMounts(mounts []plan.StepMount) []any {
	var out []any
	for _, m := range mounts {
		content := placeless(m.Value.Plain())
		m.Value = value.Node{}
		out = append(out, m, content)
	}
	return out
}

// hash is the inputs' digest on top of the key before. Maps are marshalled
// sorted.
func (of Inputs) hash(before string) string {
	text, err := json.Marshal([]any{before, of})
	if err != nil {
		panic(err) // strings always have a JSON form
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}
