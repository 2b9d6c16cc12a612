package githubtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

func (s *Server) listPulls(w http.ResponseWriter, r *http.Request, _ Token) {
	q, sha := r.URL.Query(), r.PathValue("commit_sha")
	var out []map[string]any
	for _, p := range s.pulls[repo(r)] {
		owner, _, _ := strings.Cut(p.HeadRepo, "/")
		byHead := q.Get("head") == "" || q.Get("head") == owner+":"+p.HeadRef
		byState := sha != "" || q.Get("state") == "all" || state(p) == "open"
		if byHead && byState && (sha == "" || sha == p.HeadSHA) {
			out = append(out, s.pull("pull-request-simple-items", repo(r), p))
		}
	}
	shown := page(w, r, out)
	if shown == nil {
		shown = []map[string]any{}
	}
	answer(w, http.StatusOK, shown)
}

func (s *Server) getPull(w http.ResponseWriter, r *http.Request, _ Token) {
	for _, p := range s.pulls[repo(r)] {
		if int64(p.Number) == number(r, "pull_number") {
			answer(w, http.StatusOK, s.pull("pull-request", repo(r), p))
			return
		}
	}
	notFound(w)
}

func state(p Pull) string {
	if p.State == "" {
		return "open"
	}
	return p.State
}

func (s *Server) pull(sample, repo string, p Pull) map[string]any {
	out := s.spec.sample(sample)
	head, base := out["head"].(map[string]any), out["base"].(map[string]any)
	fill(head, map[string]any{"ref": p.HeadRef, "sha": p.HeadSHA, "label": p.HeadRepo + ":" + p.HeadRef})
	fill(base, map[string]any{"ref": p.BaseRef, "sha": p.BaseSHA})
	base["repo"].(map[string]any)["full_name"] = repo
	if p.HeadRepo == "" {
		head["repo"] = nil
	} else {
		head["repo"].(map[string]any)["full_name"] = p.HeadRepo
	}
	out["user"].(map[string]any)["login"] = p.Author
	out["merged_at"] = nil
	if p.Merged {
		out["merged_at"] = s.now
	}
	if _, ok := out["merged"]; ok {
		out["merged"] = p.Merged
	}
	return fill(out, map[string]any{
		"number": p.Number, "state": state(p), "requested_teams": []any{}, "html_url": fmt.Sprintf("https://github.example/%s/pull/%d", repo, p.Number),
	})
}

func (s *Server) listComments(w http.ResponseWriter, r *http.Request, _ Token) {
	out := []map[string]any{}
	thread := thread(repo(r), int(number(r, "issue_number")))
	for _, c := range page(w, r, s.comments[thread]) {
		out = append(out, s.comment(thread, c))
	}
	answer(w, http.StatusOK, out)
}

func (s *Server) comment(thread string, c Comment) map[string]any {
	out := s.spec.sample("issue-comment")
	fill(out["user"].(map[string]any), map[string]any{"login": c.Author.Login, "id": c.Author.ID, "type": c.Author.Type})
	page := "https://github.example/" + strings.Replace(thread, "#", "/pull/", 1)
	return fill(out, map[string]any{"id": c.ID, "body": c.Body, "html_url": fmt.Sprintf("%s#issuecomment-%d", page, c.ID)})
}

// bodyOf reads a comment's text from a request, or refuses it.
func bodyOf(w http.ResponseWriter, r *http.Request) (string, bool) {
	var in struct{ Body string }
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Body == "" || tooLong(in.Body) {
		refuse(w, http.StatusUnprocessableEntity, "Validation Failed: body is too long (maximum is 65536 characters)")
		return "", false
	}
	return in.Body, true
}

func (s *Server) createComment(w http.ResponseWriter, r *http.Request, who Token) {
	if body, ok := bodyOf(w, r); ok {
		thread := thread(repo(r), int(number(r, "issue_number")))
		answer(w, http.StatusCreated, s.comment(thread, s.addComment(thread, who.User, body)))
	}
}

// findComment finds a comment of a repository, wherever it was made.
func (s *Server) findComment(r *http.Request) (thread string, index int, ok bool) {
	for thread, comments := range s.comments {
		for i, c := range comments {
			if c.ID == number(r, "comment_id") && strings.HasPrefix(thread, repo(r)+"#") {
				return thread, i, true
			}
		}
	}
	return "", 0, false
}

func (s *Server) updateComment(w http.ResponseWriter, r *http.Request, _ Token) {
	thread, i, ok := s.findComment(r)
	if !ok {
		notFound(w)
		return
	}
	if body, ok := bodyOf(w, r); ok {
		s.comments[thread][i].Body = body
		answer(w, http.StatusOK, s.comment(thread, s.comments[thread][i]))
	}
}

func (s *Server) deleteComment(w http.ResponseWriter, r *http.Request, _ Token) {
	thread, i, ok := s.findComment(r)
	if !ok {
		notFound(w)
		return
	}
	delete(s.reactions, s.comments[thread][i].ID)
	s.comments[thread] = append(s.comments[thread][:i:i], s.comments[thread][i+1:]...)
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) createReaction(w http.ResponseWriter, r *http.Request, who Token) {
	var in struct{ Content string }
	id := number(r, "comment_id")
	if _, _, ok := s.findComment(r); !ok {
		notFound(w)
		return
	}
	_ = json.NewDecoder(r.Body).Decode(&in)
	for _, l := range s.reactions[id] {
		if l.user.ID == who.User.ID && l.content == in.Content {
			answer(w, http.StatusOK, s.reaction(l))
			return
		}
	}
	l := lock{s.nextID(), who.User, in.Content, s.now}
	s.reactions[id] = append(s.reactions[id], l)
	answer(w, http.StatusCreated, s.reaction(l))
}

func (s *Server) reaction(l lock) map[string]any {
	return fill(s.spec.sample("reaction"), map[string]any{"id": l.id, "content": l.content, "created_at": l.created.Format(time.RFC3339)})
}

func (s *Server) deleteReaction(w http.ResponseWriter, r *http.Request, _ Token) {
	id := number(r, "comment_id")
	for i, l := range s.reactions[id] {
		if l.id == number(r, "reaction_id") {
			s.reactions[id] = append(s.reactions[id][:i:i], s.reactions[id][i+1:]...)
			w.WriteHeader(http.StatusNoContent)
			return
		}
	}
	notFound(w)
}

// owned finds a package, if its owner is of a kind.
func (s *Server) owned(r *http.Request, kind, param string) (string, bool) {
	owner := r.PathValue(param)
	key := owner + "/" + r.PathValue("package_name")
	_, ok := s.packages[key]
	return key, ok && s.users[owner].Type == kind && r.PathValue("package_type") == "container"
}

func (s *Server) listVersions(kind, param string) operation {
	return func(w http.ResponseWriter, r *http.Request, _ Token) {
		key, ok := s.owned(r, kind, param)
		if !ok {
			refuse(w, http.StatusNotFound, "Package not found.")
			return
		}
		out := []map[string]any{}
		for _, v := range page(w, r, s.packages[key]) {
			tags := append([]string{}, v.Tags...)
			out = append(out, fill(s.spec.sample("package-version-org"), map[string]any{
				"id": v.ID, "name": v.Digest,
				"metadata": map[string]any{"package_type": "container", "container": map[string]any{"tags": tags}},
			}))
		}
		answer(w, http.StatusOK, out)
	}
}

func (s *Server) deleteVersion(kind, param string) operation {
	return func(w http.ResponseWriter, r *http.Request, _ Token) {
		key, ok := s.owned(r, kind, param)
		versions := s.packages[key]
		for i, v := range versions {
			switch {
			case !ok || v.ID != number(r, "package_version_id"):
				continue
			case len(versions) == 1:
				refuse(w, http.StatusBadRequest, "You cannot delete the last version of a package. You must delete the package instead.")
				return
			}
			s.packages[key] = append(versions[:i:i], versions[i+1:]...)
			w.WriteHeader(http.StatusNoContent)
			return
		}
		refuse(w, http.StatusNotFound, "Package version not found.")
	}
}
