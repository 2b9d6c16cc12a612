package actions

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// TrustedScope is the cache that only the default branch and protected refs
// write. Everybody reads it; releases read nothing else.
const TrustedScope = "trusted"

// CacheScope says which caches a run may use. A run reads what was written by
// those it trusts at least as much as itself, so a poisoned entry of a pull
// request reaches no release. Scopes are fit to be part of an image's tag.
type CacheScope struct {
	Read  []string // in the order to look; empty is none
	Write string   // empty is none
}

// cacheScope decides on the caches of this run.
func (e Event) cacheScope(t Trust) CacheScope {
	if t.Refused != "" {
		return CacheScope{}
	}
	s := e.scopeOfRef()
	if !t.Full() || slices.Contains(privileged, e.Name) {
		s.Write = ""
	}
	switch e.CacheMode {
	case "none":
		return CacheScope{}
	case "read":
		s.Write = ""
	case "write-only":
		s.Read = nil
	}
	return s
}

func (e Event) scopeOfRef() CacheScope {
	switch {
	case strings.HasPrefix(e.Name, "pull_request") || e.Name == "issue_comment" && e.PR > 0:
		return e.scopeOfPull()
	case e.Name == "merge_group", e.Name == "workflow_run":
		return CacheScope{Read: []string{TrustedScope}}
	case e.RefProtected, e.Branch() != "" && e.Branch() == e.DefaultBranch:
		return CacheScope{Read: []string{TrustedScope}, Write: TrustedScope}
	case e.Branch() != "":
		own := branchScope(e.Branch())
		return CacheScope{Read: []string{own, TrustedScope}, Write: own}
	}
	return CacheScope{Read: []string{TrustedScope}} // a tag that anybody may push
}

// scopeOfPull: a run with the base's rights does not read what the pull
// request's own code wrote.
func (e Event) scopeOfPull() CacheScope {
	var s CacheScope
	if e.PR > 0 && !slices.Contains(privileged, e.Name) {
		s.Write = "pr-" + strconv.Itoa(e.PR)
		s.Read = append(s.Read, s.Write)
	}
	if e.BaseRef != "" && e.BaseRef != e.DefaultBranch {
		s.Read = append(s.Read, branchScope(e.BaseRef))
	}
	s.Read = append(s.Read, TrustedScope)
	return s
}

var scopeUnfit = regexp.MustCompile(`[^A-Za-z0-9_.-]+`)

// branchScope is a scope of a branch's own. A name that must be made fit gets a
// hash, so that it is no other branch's.
func branchScope(branch string) string {
	fit := scopeUnfit.ReplaceAllString(branch, "-")
	if fit == branch && len(fit) <= 64 {
		return "branch-" + fit
	}
	sum := sha256.Sum256([]byte(branch))
	return "ref-" + fit[:min(48, len(fit))] + "." + hex.EncodeToString(sum[:6])
}
