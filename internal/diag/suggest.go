package diag

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
)

// Suggest is the hint for an unknown name: the known name nearest to it, if
// one is near, else the list of known names.
func Suggest(name string, known []string) string {
	if near := nearest(name, known); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	if len(known) == 0 {
		return ""
	}
	sorted := slices.Sorted(slices.Values(known))
	return "known: " + strings.Join(slices.Compact(sorted), ", ")
}

func nearest(name string, known []string) string {
	best, bestDistance := "", 3 // more than two edits is another word
	folded := fold(name)
	for _, k := range known {
		distance := levenshtein.Distance(folded, fold(k), nil)
		if distance < bestDistance && distance < max(1, len(k)/2+1) {
			best, bestDistance = k, distance
		}
	}
	return best
}

func fold(s string) string { return strings.ReplaceAll(strings.ToLower(s), "-", "_") }
