package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/imgbake/imgbake-action/internal/actions"
	"github.com/imgbake/imgbake-action/internal/plan"
	"github.com/imgbake/imgbake-action/internal/registry"
	"github.com/imgbake/imgbake-action/internal/run"
	"github.com/imgbake/imgbake-action/internal/sandbox"
	"github.com/imgbake/imgbake-action/internal/stepcache"
	"github.com/imgbake/imgbake-action/internal/store"
)

// caches is where steps are kept besides this machine, and how much here.
type caches struct {
	cacheFrom    []string            // in place of what the template says; none: that
	cacheTo      *string             // likewise
	cacheScope   *actions.CacheScope // what the run may use of all these; nil: everything
	cacheMaxSize string              // "": defaultCacheSize
}

const defaultCacheSize = "20GB"

func (c *caches) add(flags *pflag.FlagSet) {
	c.addFrom(flags)
	flags.Func("cache-to", "keep what steps did in a registry too, in place of the one in the template: HOST/REPO[:TAG][,scope=NAME], or type=registry,ref=…,mode=max; empty: in none", func(text string) error {
		c.cacheTo = &text
		return nil
	})
	flags.StringVar(&c.cacheMaxSize, "cache-max-size", defaultCacheSize, "how much the cache folder may hold after a build, such as 500MB; 0: no limit")
}

func (c *caches) addFrom(flags *pflag.FlagSet) {
	flags.StringArrayVar(&c.cacheFrom, "cache-from", nil, "take steps that were baked elsewhere from a registry, in place of those in the template: HOST/REPO[:TAG][,scope=NAME], or type=registry,ref=… (repeat); empty: from none")
}

// open gives the cache of a template that says where to keep steps. A dry run
// writes none but this machine's.
func (c caches) open(ctx context.Context, said plan.Cache, local stepcache.Local, client *registry.Client, dryRun bool) (run.Cache, error) {
	if _, err := c.most(); err != nil {
		return nil, err
	}
	used, err := c.instead(said)
	if err != nil {
		return nil, err
	}
	if c.cacheScope != nil { // after all else: whatever asks for a cache gets no more than this
		used = within(used, *c.cacheScope)
	}
	if dryRun {
		used.To = nil
	}
	if len(used.From) == 0 && used.To == nil {
		return local, nil
	}
	return stepcache.Shared{Local: local, Client: client, From: used.From, To: used.To, Life: ctx}, nil
}

// instead is what the template says with what was given in its place.
func (c caches) instead(said plan.Cache) (plan.Cache, error) {
	if len(c.cacheFrom) > 0 {
		refs, err := cacheRefs("cache-from", c.cacheFrom...)
		if err != nil {
			return said, err
		}
		said.From = refs
	}
	if c.cacheTo != nil {
		refs, err := cacheRefs("cache-to", *c.cacheTo)
		if err != nil {
			return said, err
		}
		if said.To = nil; len(refs) > 0 {
			said.To = &refs[0]
		}
	}
	return said, nil
}

// cacheRefs reads what a flag was given. An empty text is no place.
func cacheRefs(flag string, texts ...string) (refs []plan.CacheRef, err error) {
	for _, text := range texts {
		if text == "" {
			continue
		}
		ref, err := plan.ParseCacheRef(text)
		if err != nil {
			return nil, usage("--%s: %v", flag, err) // as text: a flag has no place to point at
		}
		refs = append(refs, ref)
	}
	return refs, nil
}

// within is a cache as far as a run may use it.
func within(c plan.Cache, may actions.CacheScope) (used plan.Cache) {
	for _, ref := range c.From {
		for _, scope := range may.Read {
			used.From = append(used.From, ref.Within(scope))
		}
	}
	if c.To != nil && may.Write != "" {
		to := c.To.Within(may.Write)
		used.To = &to
	}
	return used
}

// most is how many bytes the cache folder may hold; 0: any number.
func (c caches) most() (int64, error) {
	if c.cacheMaxSize == "" {
		return parseSize(defaultCacheSize)
	}
	return parseSize(c.cacheMaxSize)
}

// limit keeps the cache folder small. It looks at most once an hour, and leaves
// a store that others use alone; what it cannot do the next build may.
func (c caches) limit(s *store.Store, now time.Time) {
	most, err := c.most()
	if err != nil || most == 0 {
		return
	}
	if last, ok := s.Cached("pruned", "last"); ok {
		if at, err := strconv.ParseInt(string(last), 10, 64); err == nil && now.Sub(time.Unix(at, 0)) < time.Hour {
			return
		}
	}
	_ = s.PutCached("pruned", "last", []byte(strconv.FormatInt(now.Unix(), 10)))
	_, _ = prune(s, most, 0, now)
}

// parseSize reads 20GB, 500 MiB or a number of bytes.
func parseSize(text string) (int64, error) {
	number := strings.TrimRight(text, "bBiIkKmMgGtT ")
	unit := strings.ToLower(strings.TrimSpace(text[len(number):]))
	n, err := strconv.ParseFloat(number, 64)
	factor, ok := map[string]float64{
		"": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40,
		"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
	}[unit]
	if err != nil || !ok || !(n >= 0 && n*factor < 1<<62) {
		return 0, usage("size %q: want a number with B, KB, MB, GB, TB, KiB, MiB, GiB or TiB", text)
	}
	return int64(n * factor), nil
}

// parseAge reads 36h or 7d.
func parseAge(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	age, err := time.ParseDuration(text)
	if err != nil || age < 0 {
		return 0, usage("age %q: want such as 36h or 7d", text)
	}
	return age, nil
}

// prune removes what was not used for longer than age, and then, until at most
// so many bytes are left, what was unused longest: of unpacked layers by age,
// since they can be unpacked again. Zero is no limit. It tells what was freed.
func prune(s *store.Store, most int64, age time.Duration, now time.Time) (int64, error) {
	before := unpacked(s)
	var problems []error
	left := before
	if age > 0 {
		problems = append(problems, pruneRoots(s, age, now))
		left = unpacked(s)
	}
	for _, unused := range []time.Duration{30 * 24 * time.Hour, 7 * 24 * time.Hour, 24 * time.Hour, time.Hour, 0} {
		if most > 0 && left > most/2 {
			problems = append(problems, pruneRoots(s, unused, now))
			left = unpacked(s)
		}
	}
	room := most
	if most > 0 {
		room = max(most-left, 1)
	}
	freed, err := s.Prune(room, age)
	if errors.Is(err, store.ErrInUse) {
		err = fmt.Errorf("%w: try again when no imgbake is running", err)
	}
	return freed + max(before-left, 0), errors.Join(append(problems, err)...)
}

func rootsDir(s *store.Store) string { return filepath.Join(s.Dir(), "roots") }

func unpacked(s *store.Store) int64 { return store.Size(rootsDir(s)) }

// pruneRoots removes unpacked layers that no machine uses.
func pruneRoots(s *store.Store, age time.Duration, now time.Time) error {
	if _, err := os.Stat(rootsDir(s)); err != nil {
		return nil //nolint:nilerr // nothing was ever unpacked
	}
	squashed, _ := filepath.Glob(filepath.Join(rootsDir(s), "*-squashed"))
	for _, squash := range []bool{false, true} {
		if squash && len(squashed) == 0 {
			break
		}
		roots, err := sandbox.Open(rootsDir(s), squash)
		if err != nil {
			return err
		}
		if _, err := roots.Prune(age, now); err != nil {
			return err
		}
	}
	return nil
}

// identity is the template's path: what bakes of one name are told apart by.
func (p prepared) identity() string { return filepath.Join(p.home, filepath.Base(p.File)) }

func (a *App) cache() *cobra.Command {
	cmd := &cobra.Command{
		Use: "cache", Short: "Show or empty the folder of layers and caches",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.cacheList(), a.cachePrune(), a.cacheClear())
	return cmd
}

// inStore does something with the store of a cache folder.
func (a *App) inStore(flag string, do func(*store.Store) error) error {
	dir, err := a.cacheDir(flag)
	if err != nil {
		return err
	}
	s, err := store.Open(dir)
	if err != nil {
		return &exitError{ExitFailed, err}
	}
	defer s.Close()
	err = do(s)
	var exit *exitError
	if err != nil && !errors.As(err, &exit) {
		err = &exitError{ExitFailed, err}
	}
	return err
}

const cacheDirHelp = "folder for layers and caches (default: imgbake in the user's cache folder)"

func (a *App) cacheList() *cobra.Command {
	var dir string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "ls", Short: "Say what the cache folder holds", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return a.inStore(dir, func(s *store.Store) error {
				uses, err := s.Usage()
				if err != nil {
					return err
				}
				uses = append(uses, store.Use{Kind: "unpacked", Bytes: unpacked(s)})
				if asJSON {
					return writeJSON(a.Stdout, uses)
				}
				w := tabwriter.NewWriter(a.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
				total := int64(0)
				for _, u := range uses {
					total += u.Bytes
					fmt.Fprintf(w, "%s\t%s\t\n", u.Kind, megabytes(u.Bytes))
				}
				fmt.Fprintf(w, "total\t%s\t\n", megabytes(total))
				return w.Flush()
			})
		},
	}
	cmd.Flags().StringVar(&dir, "cache-dir", "", cacheDirHelp)
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON, in bytes")
	return cmd
}

func (a *App) cachePrune() *cobra.Command {
	var dir, size, age string
	cmd := &cobra.Command{
		Use: "prune", Short: "Remove from the cache folder what was not used for long",
		Example: "  imgbake cache prune --older-than 7d\n  imgbake cache prune --max-size 5GB",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if size == "0" && age == "0s" {
				return usage("cache prune: give --max-size, --older-than or both (cache clear removes everything)")
			}
			most, err := parseSize(size)
			if err != nil {
				return err
			}
			unused, err := parseAge(age)
			if err != nil {
				return err
			}
			return a.freed(dir, func(s *store.Store) (int64, error) { return prune(s, most, unused, a.Now()) })
		},
	}
	cmd.Flags().StringVar(&dir, "cache-dir", "", cacheDirHelp)
	cmd.Flags().StringVar(&size, "max-size", "0", "how much may be left, such as 5GB; 0: no limit")
	cmd.Flags().StringVar(&age, "older-than", "0s", "what was not used for this long goes, such as 36h or 7d; 0s: no limit")
	return cmd
}

func (a *App) cacheClear() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use: "clear", Short: "Empty the cache folder", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return a.freed(dir, func(s *store.Store) (int64, error) {
				before := unpacked(s)
				unpackedErr := pruneRoots(s, 0, a.Now().Add(time.Hour))
				freed, err := prune(s, 0, time.Nanosecond, a.Now())
				return freed + max(before-unpacked(s), 0), errors.Join(unpackedErr, err)
			})
		},
	}
	cmd.Flags().StringVar(&dir, "cache-dir", "", cacheDirHelp)
	return cmd
}

func (a *App) freed(dir string, do func(*store.Store) (int64, error)) error {
	return a.inStore(dir, func(s *store.Store) error {
		bytes, err := do(s)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(a.Stdout, "%s are free now\n", megabytes(bytes))
		return err
	})
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }
