package githubtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// operation answers one kind of request. It is called with the lock held.
type operation func(w http.ResponseWriter, r *http.Request, who Token)

const issueComments = "/repos/{owner}/{repo}/issues/"

func (s *Server) operations() map[string]operation {
	return map[string]operation{
		"GET /user":                                                                                     s.getMe,
		"GET /users/{username}":                                                                         s.getUser,
		"GET /repos/{owner}/{repo}/pulls":                                                               s.listPulls,
		"GET /repos/{owner}/{repo}/pulls/{pull_number}":                                                 s.getPull,
		"GET /repos/{owner}/{repo}/commits/{commit_sha}/pulls":                                          s.listPulls,
		"GET " + issueComments + "{issue_number}/comments":                                              s.listComments,
		"POST " + issueComments + "{issue_number}/comments":                                             s.createComment,
		"PATCH " + issueComments + "comments/{comment_id}":                                              s.updateComment,
		"DELETE " + issueComments + "comments/{comment_id}":                                             s.deleteComment,
		"POST " + issueComments + "comments/{comment_id}/reactions":                                     s.createReaction,
		"DELETE " + issueComments + "comments/{comment_id}/reactions/{reaction_id}":                     s.deleteReaction,
		"GET /orgs/{org}/packages/{package_type}/{package_name}/versions":                               s.listVersions("Organization", "org"),
		"GET /users/{username}/packages/{package_type}/{package_name}/versions":                         s.listVersions("User", "username"),
		"DELETE /orgs/{org}/packages/{package_type}/{package_name}/versions/{package_version_id}":       s.deleteVersion("Organization", "org"),
		"DELETE /users/{username}/packages/{package_type}/{package_name}/versions/{package_version_id}": s.deleteVersion("User", "username"),
	}
}

// routes makes a handler of all operations. An operation that GitHub's
// description lacks is an error, and one that it has and we do not, too.
func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	ours := s.operations()
	for path, item := range s.spec.doc.Paths.Map() {
		for method := range item.Operations() {
			op, ok := ours[method+" "+path]
			if !ok {
				s.t.Fatalf("%s %s: no such operation here", method, path)
			}
			delete(ours, method+" "+path)
			mux.HandleFunc(method+" /api/v3"+path, s.checked(path, item, method, s.authorized(op)))
		}
	}
	for what := range ours {
		s.t.Fatalf("%s: not in GitHub's description", what)
	}
	mux.HandleFunc("POST /api/graphql", s.authorized(s.viewer))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.t.Errorf("request %s %s: no such operation", r.Method, r.URL)
		Page(http.StatusNotFound, "404 page not found\n")(w, r, nil)
	})
	return mux
}

// authorized looks who the token is.
func (s *Server) authorized(op operation) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		who, ok := s.tokens[token]
		lacking := strings.Contains(r.URL.Path, "/packages/") || strings.HasSuffix(r.URL.Path, "/graphql")
		switch {
		case s.Gitea && lacking:
			Page(http.StatusNotFound, "404 page not found\n")(w, r, nil)
		case !ok:
			refuse(w, http.StatusUnauthorized, "Bad credentials")
		case who.ReadOnly && r.Method != http.MethodGet && !strings.HasSuffix(r.URL.Path, "/graphql"):
			Integration(w, r, nil)
		default:
			op(w, r, who)
		}
	}
}

func answer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body)
}

func notFound(w http.ResponseWriter) { refuse(w, http.StatusNotFound, "Not Found") }

// page cuts a list and links to the next page, as GitHub does.
func page[T any](w http.ResponseWriter, r *http.Request, all []T) []T {
	q := r.URL.Query()
	size, number := atoi(q.Get("per_page"), 30), atoi(q.Get("page"), 1)
	start := min((number-1)*size, len(all))
	end := min(start+size, len(all))
	if end < len(all) {
		next := url.URL{Scheme: "http", Host: r.Host, Path: r.URL.Path}
		q.Set("page", strconv.Itoa(number+1))
		next.RawQuery = q.Encode()
		w.Header().Set("Link", fmt.Sprintf(`<%s>; rel="next"`, next.String()))
	}
	return all[start:end]
}

func atoi(s string, otherwise int) int {
	if n, err := strconv.Atoi(s); err == nil && n > 0 {
		return n
	}
	return otherwise
}

func repo(r *http.Request) string { return r.PathValue("owner") + "/" + r.PathValue("repo") }

func number(r *http.Request, name string) int64 {
	n, _ := strconv.ParseInt(r.PathValue(name), 10, 64)
	return n
}

func (s *Server) getMe(w http.ResponseWriter, r *http.Request, who Token) {
	if who.App {
		Integration(w, r, nil)
		return
	}
	answer(w, http.StatusOK, s.publicUser(who.User))
}

func (s *Server) viewer(w http.ResponseWriter, _ *http.Request, who Token) {
	answer(w, http.StatusOK, map[string]any{"data": map[string]any{"viewer": map[string]any{"login": who.User.Login, "databaseId": who.User.ID}}})
}

func (s *Server) getUser(w http.ResponseWriter, r *http.Request, _ Token) {
	u, ok := s.users[r.PathValue("username")]
	if !ok {
		notFound(w)
		return
	}
	answer(w, http.StatusOK, s.publicUser(u))
}

func (s *Server) publicUser(u User) map[string]any {
	return fill(s.spec.sample("public-user-default-response"), map[string]any{"login": u.Login, "id": u.ID, "type": u.Type, "user_view_type": "public"})
}

func fill(sample, with map[string]any) map[string]any {
	for k, v := range with {
		sample[k] = v
	}
	return sample
}

func tooLong(body string) bool { return utf8.RuneCountInString(body) > 65536 }
