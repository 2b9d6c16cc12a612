package registry

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	rt "github.com/imgbake/imgbake-action/internal/registry/registrytest"
)

// TestHandshakes holds what finding out how to sign in costs.
func TestHandshakes(t *testing.T) {
	token := func(f *fixture) {
		f.On(rt.Is("GET", "/token"), -1, rt.Token("", "", "t0ken"))
		f.On(rt.Any, -1, rt.Bearer(f.URL+"/token", "t0ken"))
	}
	basic := func(f *fixture) { f.On(rt.Any, -1, rt.Basic("u", "geheim")) }
	for _, tc := range []struct {
		name    string
		prepare func(*fixture)
		auth    Auth
		want    string
	}{
		{"open to all", func(*fixture) {}, Auth{}, "HEAD a, HEAD b"},
		{"tokens for the anonymous", token, Auth{}, "HEAD a, GET token, HEAD a, GET token, HEAD b"},
		{"password", basic, Auth{Username: "u", Password: password("geheim")}, "GET v2, HEAD a, HEAD b"},
		{"password nobody asks for", func(*fixture) {}, Auth{Username: "u", Password: password("geheim")}, "GET v2, HEAD a, HEAD b"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			f.must(t, randomImage(t, 10, 1), f.repo(t, "a").Tag("1"))
			f.must(t, randomImage(t, 10, 1), f.repo(t, "b").Tag("1"))
			f.Requests()
			tc.prepare(f)
			c := f.client(t)
			for _, repo := range []string{"a", "b"} {
				if _, err := c.Head(t.Context(), f.repo(t, repo).Tag("1"), tc.auth); err != nil {
					t.Fatal(err)
				}
			}
			var got []string
			for _, r := range f.Requests() {
				path := strings.TrimPrefix(strings.TrimSuffix(r.Path, "/manifests/1"), "/v2/")
				if path == "" {
					path = "v2"
				}
				got = append(got, r.Method+" "+strings.Trim(path, "/"))
			}
			if diff := cmp.Diff(tc.want, strings.Join(got, ", ")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestWritesNeedSignIn: a registry that shows everything to everybody asks
// later than one that does not.
func TestWritesNeedSignIn(t *testing.T) {
	f := newFixture(t)
	f.On(rt.Is("GET", "/token"), -1, rt.Token("", "", "t0ken"))
	f.On(func(r *http.Request) bool { return r.Method != http.MethodHead && r.Method != http.MethodGet }, -1, rt.Bearer(f.URL+"/token", "t0ken"))
	f.must(t, randomImage(t, 2<<20, 1), f.repo(t, "a").Tag("1"))
}

// TestScopesForMounts: a token server that gives nothing when one repository
// may not be read is asked for less.
func TestScopesForMounts(t *testing.T) {
	f := newFixture(t)
	img := randomImage(t, 10, 1)
	f.must(t, img, f.repo(t, "private").Tag("1"))
	f.On(func(r *http.Request) bool {
		return strings.HasPrefix(r.URL.Path, "/token") && strings.Contains(r.URL.RawQuery, "private")
	}, -1, rt.Status(http.StatusForbidden))
	f.On(rt.Is("GET", "/token"), -1, rt.Token("", "", "t0ken"))
	f.On(rt.Any, -1, rt.Bearer(f.URL+"/token", "t0ken"))
	stats, err := f.client(t).Push(t.Context(), f.repo(t, "a"), img, Auth{}, f.repo(t, "private"))
	if err != nil || stats.Mounted == 0 { // this registry mounts all the same
		t.Errorf("stats %+v, error %v", stats, err)
	}
}
