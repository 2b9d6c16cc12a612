package file

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/moby/patternmatcher"
)

// filter decides what of a tree is left out: what the user excludes, and what
// is guarded.
type filter struct {
	user, guard *patternmatcher.PatternMatcher
}

func newFilter(exclude []string) (filter, error) {
	user, err := patternmatcher.New(exclude)
	if err != nil {
		return filter{}, fmt.Errorf("exclude: %w", err)
	}
	back := slices.DeleteFunc(slices.Clone(exclude), func(p string) bool { return !strings.HasPrefix(strings.TrimSpace(p), "!") })
	guard, err := patternmatcher.New(slices.Concat(Guarded, back))
	if err != nil {
		return filter{}, fmt.Errorf("exclude: %w", err)
	}
	return filter{user, guard}, nil
}

// verdict is what a filter says of one entry.
type verdict struct{ out, guarded bool }

// walk judges the entries of one tree. Every directory must be judged before
// what is in it.
type walk struct {
	filter
	seen map[string][2]patternmatcher.MatchInfo // by directory
}

func (f filter) walk() *walk { return &walk{f, map[string][2]patternmatcher.MatchInfo{}} }

// judge tells what to do with the entry rel of the tree.
func (w *walk) judge(rel string, isDir bool) (verdict, error) {
	if rel == "." {
		return verdict{}, nil
	}
	parent := w.seen[path.Dir(rel)]
	user, userInfo, err := w.user.MatchesUsingParentResults(rel, parent[0])
	if err != nil {
		return verdict{}, fmt.Errorf("exclude: %w", err)
	}
	guard, guardInfo, err := w.guard.MatchesUsingParentResults(rel, parent[1])
	if err != nil {
		return verdict{}, fmt.Errorf("exclude: %w", err)
	}
	if isDir {
		w.seen[rel] = [2]patternmatcher.MatchInfo{userInfo, guardInfo}
	}
	return verdict{out: user || guard, guarded: guard && !user}, nil
}

// whole reports whether nothing below a directory left out can come back.
func (w *walk) whole() bool { return !w.user.Exclusions() && !w.guard.Exclusions() }

// guards reports whether a source named by itself is guarded.
func (f filter) guards(source string) (bool, error) {
	match, err := f.guard.MatchesOrParentMatches(source)
	if err != nil {
		return false, fmt.Errorf("exclude: %w", err)
	}
	return match, nil
}
