package run

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/plan"
	"github.com/imgbake/imgbake-action/internal/value"
)

// Cache keeps what steps did, so that a later run need not do it again.
type Cache interface {
	// Open is the cache as one bake sees it, whose steps have these keys: all,
	// or those up to the first that may not be cached.
	Open(ctx context.Context, b plan.Bake, keys []Key) BakeCache
}

// BakeCache is one bake's view of a Cache. What it cannot do costs time only,
// so it reports problems by itself and not here.
type BakeCache interface {
	// Find gives the checkpoint of a key. Its layers may have to be fetched
	// when they are read.
	Find(ctx context.Context, key Key) (bake.Checkpoint, bool)
	// Keep remembers the checkpoint of a key.
	Keep(ctx context.Context, key Key, made bake.Checkpoint)
	// Close writes what is to be written elsewhere. It is called once, when
	// the bake has succeeded.
	Close(ctx context.Context)
	// Check is called when a bake failed that had something of the cache. It
	// reads all that was given or kept, sees to it that what is damaged is not
	// given again, and returns what it found; nil: nothing is damaged.
	Check(ctx context.Context) error
}

// Key identifies a tree: the source and every step so far with all they depend
// on, but for the values of secrets.
type Key struct {
	ID   string // SHA-256, as hex
	Step int    // the last step, from 1
	Of   Inputs // what ID is made of, besides the key before
}

// Inputs are what a step's result depends on, by name: what a key is made of,
// and what explains a miss.
type Inputs map[string]string

// keyVersion changes when the same inputs shall no longer give the same keys.
const keyVersion = "1"

// stepCache is what a bake has in the cache.
type stepCache struct {
	BakeCache
	keys []Key // of the steps that may be cached, from the first one on
	done []bake.Checkpoint
}

// keep remembers what a step did, unless it is one that may not be cached.
func (c *stepCache) keep(ctx context.Context, step int, a bake.Artifact) {
	if c != nil && step >= 0 && step < len(c.keys) && len(a.Steps) > 0 && !a.Steps[len(a.Steps)-1].Partial {
		c.Keep(ctx, c.keys[step], a.Steps[len(a.Steps)-1])
	}
}

// close ends the cache's work after a bake that succeeded.
func (c *stepCache) close(ctx context.Context) {
	if c != nil {
		c.Close(ctx)
	}
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
	c := &stepCache{BakeCache: r.Cache.Open(ctx, b, keys), keys: keys}
	if res.anew {
		return c, nil
	}
	if !r.each(b) { // one checkpoint for all steps, or none
		if last := len(keys) - 1; last >= 0 && last == len(b.Steps)-1 && !r.ignored(b, last) {
			r.find(ctx, c, b, last)
		}
		return c, nil
	}
	for i := range keys {
		if r.ignored(b, i) || !r.find(ctx, c, b, i) {
			break
		}
	}
	return c, nil
}

// find adds the checkpoint of a step to those that are done.
func (r *runner) find(ctx context.Context, c *stepCache, b plan.Bake, step int) bool {
	made, ok := c.Find(ctx, c.keys[step])
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

// keys are those of the steps up to the first that may not be cached.
func (r *runner) keys(ctx context.Context, b plan.Bake, source string) ([]Key, error) {
	seed := Inputs{
		"version": keyVersion, "source": source, "bake": b.Name, "image": b.Image, "builder": b.Builder, "type": b.Type,
		"platform": b.Platform, "layers": b.Layers, "keep": fmt.Sprintf("%q", b.Keep),
	}
	if b.Epoch != nil {
		seed["SOURCE_DATE_EPOCH"] = fmt.Sprint(b.Epoch.Unix())
	}
	var keys []Key
	before := ""
	for i, s := range b.Steps {
		if !s.Cache {
			break
		}
		of, err := r.inputs(ctx, b, s)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			for name, text := range seed {
				of[name] = text
			}
		}
		before = of.hash(before)
		keys = append(keys, Key{ID: before, Step: i + 1, Of: of})
	}
	return keys, nil
}

// inputs are what a step depends on by itself. Expressions that read secrets
// stand there as they are written.
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
		of["file "+in.Path] = in.Digest
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
