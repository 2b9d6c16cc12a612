package github_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/imgbake/imgbake-action/internal/github"
	"github.com/imgbake/imgbake-action/internal/github/githubtest"
	"github.com/imgbake/imgbake-action/internal/secret"
)

// post is a share in a comment that shows what it holds in one line.
func post(leg string, run int64, data string) github.Post {
	return github.Post{
		Repository: github.Repository{Owner: "o", Name: "r"}, Number: 7, Key: "imgbake",
		Author:  github.ActionsBot,
		Section: github.Section{Leg: leg, Run: run, Attempt: 1, Data: json.RawMessage(data)},
		Render:  show,
	}
}

func show(sections []github.Section, _ int) string {
	var out []string
	for _, s := range sections {
		out = append(out, fmt.Sprintf("%s@%d:%s", s.Leg, s.Run, s.Data))
	}
	return "[" + strings.Join(out, " ") + "]"
}

// client is a client of a server whose sleeps pass on the server's clock, and
// are written down.
func client(t *testing.T, s *githubtest.Server, token string, slept *[]time.Duration) *github.Client {
	t.Helper()
	c, err := github.New(github.Options{
		BaseURL: s.URL, GraphQLURL: s.GraphQLURL, Token: secret.New(token), UserAgent: "imgbake/test",
		Sleep: func(ctx context.Context, d time.Duration) error {
			if slept != nil {
				*slept = append(*slept, d)
			}
			s.Pass(d)
			return ctx.Err()
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func upsert(t *testing.T, c *github.Client, p github.Post) github.Posted {
	t.Helper()
	got, err := c.Upsert(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func writes(s *githubtest.Server) int {
	n := 0
	for _, r := range s.Requests() {
		if !strings.HasPrefix(r, "GET ") {
			n++
		}
	}
	return n
}

func TestUpsertInPlace(t *testing.T) {
	s := githubtest.New(t)
	c := client(t, s, "actions", nil)
	for range 150 {
		s.AddComment("o/r", 7, githubtest.User{ID: 9, Login: "chatty", Type: "User"}, "me too")
	}
	first := upsert(t, c, post("a", 1, `{"n":1}`))
	for _, step := range []struct {
		post github.Post
		want github.Outcome
		text string
	}{
		{post("b", 1, `"<&>"`), github.Updated, `[a@1:{"n":1} b@1:"\u003c\u0026\u003e"]`},
		{post("a", 2, `{"n":2}`), github.Updated, `[a@2:{"n":2} b@1:"\u003c\u0026\u003e"]`},
		{post("a", 2, `{ "n": 2 }`), github.Unchanged, `[a@2:{"n":2} b@1:"\u003c\u0026\u003e"]`},
		{post("a", 1, `{"n":1}`), github.Superseded, `[a@2:{"n":2} b@1:"\u003c\u0026\u003e"]`},
		{post("a", 2, `{"n":3}`), github.Updated, `[a@2:{"n":3} b@1:"\u003c\u0026\u003e"]`},
	} {
		before := writes(s)
		got := upsert(t, c, step.post)
		comments := s.Comments("o/r", 7)
		last := comments[len(comments)-1]
		if len(comments) != 151 || got.Comment.ID != first.Comment.ID || got.Outcome != step.want || !strings.HasSuffix(last.Body, "\n"+step.text) {
			t.Errorf("%d comments, %s of %d, text %q; want %s of %d, text %q",
				len(comments), got.Outcome, got.Comment.ID, last.Body, step.want, first.Comment.ID, step.text)
		}
		if quiet := step.want != github.Updated; quiet && writes(s) != before {
			t.Errorf("%s: %d writes", step.want, writes(s)-before)
		}
	}
	if first.Outcome != github.Created || !strings.Contains(first.Comment.URL, "#issuecomment-") {
		t.Errorf("first: %+v", first)
	}
}

// What others wrote is not touched, and what is broken is begun anew.
func TestUpsertOfWhatOthersWrote(t *testing.T) {
	other := post("a", 1, `"theirs"`)
	body := github.Body(other, []github.Section{other.Section})
	otherKey := other
	otherKey.Key = "other"
	for _, c := range []struct {
		name   string
		author githubtest.User
		body   string
		mine   bool
	}{
		{"a stranger's", githubtest.User{ID: 5, Login: "mallory", Type: "User"}, body, false},
		{"a namesake's", githubtest.User{ID: 6, Login: "github-actions", Type: "User"}, body, false},
		{"another key", githubtest.ActionsBot, github.Body(otherKey, []github.Section{other.Section}), false},
		{"quoted by our own account", githubtest.ActionsBot, "> " + body, false},
		{"broken state", githubtest.ActionsBot, strings.Replace(body, " -->", "!! -->", 1), true},
		{"cut state", githubtest.ActionsBot, body[:40], true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := githubtest.New(t)
			id := s.AddComment("o/r", 7, c.author, c.body)
			got := upsert(t, client(t, s, "actions", nil), post("b", 1, `"ours"`))
			if mine := got.Comment.ID == id; mine != c.mine {
				t.Errorf("wrote comment %d, want that of %s: %t", got.Comment.ID, c.author.Login, c.mine)
			}
			if first := s.Comments("o/r", 7)[0]; !c.mine && first.Body != c.body {
				t.Errorf("changed to %q", first.Body)
			}
			if !strings.HasSuffix(got.Comment.Body, `[b@1:"ours"]`) {
				t.Errorf("body %q", got.Comment.Body)
			}
		})
	}
}

// Answers that are lost, limits, and locks of the dead.
func TestUpsertInBadWeather(t *testing.T) {
	lost := githubtest.After(githubtest.Status(http.StatusBadGateway, "oops"))
	const comments, one = " /repos/*/*/issues/*/comments", " /repos/*/*/issues/comments/*"
	for _, c := range []struct {
		name    string
		pattern string
		fault   githubtest.Fault
	}{
		{"list fails", "GET" + comments, githubtest.Status(http.StatusServiceUnavailable, "busy")},
		{"list breaks off", "GET" + comments, githubtest.Reset},
		{"creation is refused for now", "POST" + comments, githubtest.Secondary(30)},
		{"creation fails", "POST" + comments, githubtest.Status(http.StatusInternalServerError, "oops")},
		{"creation's answer is lost", "POST" + comments, lost},
		{"creation breaks off", "POST" + comments, githubtest.After(githubtest.Reset)},
		{"hour's requests are used up", "POST" + comments, githubtest.Primary(time.Minute)},
		{"update fails", "PATCH" + one, githubtest.Status(http.StatusBadGateway, "oops")},
		{"update's answer is lost", "PATCH" + one, lost},
		{"lock's answer is lost", "POST" + one + "/reactions", lost},
		{"unlock's answer is lost", "DELETE" + one + "/reactions/*", lost},
		{"unlock breaks off", "DELETE" + one + "/reactions/*", githubtest.After(githubtest.Reset)},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := githubtest.New(t)
			client := client(t, s, "actions", nil)
			s.Inject(c.pattern, c.fault)
			upsert(t, client, post("a", 1, `1`))
			got := upsert(t, client, post("b", 1, `2`))
			all := s.Comments("o/r", 7)
			if len(all) != 1 || !strings.HasSuffix(all[0].Body, `[a@1:1 b@1:2]`) || s.Reactions(got.Comment.ID) != 0 || s.Pending() != 0 {
				t.Errorf("comments %+v, %d reactions, %d faults left", all, s.Reactions(got.Comment.ID), s.Pending())
			}
		})
	}
}

func TestUpsertBreaksTheLockOfTheDead(t *testing.T) {
	s := githubtest.New(t)
	var slept []time.Duration
	c := client(t, s, "actions", &slept)
	first := upsert(t, c, post("a", 1, `1`))
	s.React(first.Comment.ID, githubtest.ActionsBot, "eyes")
	s.React(first.Comment.ID, githubtest.User{ID: 5, Login: "fan", Type: "User"}, "eyes")
	upsert(t, c, post("b", 1, `2`))
	var waited time.Duration
	for _, d := range slept {
		waited += d
	}
	if waited < 50*time.Second || waited > 90*time.Second {
		t.Errorf("waited %v for a lock that lasts a minute", waited)
	}
	if n := s.Reactions(first.Comment.ID); n != 1 {
		t.Errorf("%d reactions are left, want the fan's", n)
	}
}

func TestUpsertRefused(t *testing.T) {
	s := githubtest.New(t)
	s.AddToken("fork", githubtest.Token{User: githubtest.ActionsBot, App: true, ReadOnly: true})
	_, err := client(t, s, "fork", nil).Upsert(t.Context(), post("a", 1, `1`))
	if !errors.Is(err, github.ErrForbidden) || !strings.Contains(err.Error(), "pull-requests: write") {
		t.Errorf("got %v", err)
	}
	p := post("a", 1, `"`+noise(100_000)+`"`)
	if _, err := client(t, s, "actions", nil).Upsert(t.Context(), p); err == nil || !strings.Contains(err.Error(), "do not fit") {
		t.Errorf("section that is too large: %v", err)
	}
}

// Sections that do not all fit lose the oldest, whoever writes.
func TestUpsertDropsTheOldest(t *testing.T) {
	s := githubtest.New(t)
	c := client(t, s, "actions", nil)
	for run := range 6 {
		p := post(fmt.Sprintf("leg%d", run), int64(run), `"`+noise(10_000+run)+`"`)
		p.Render = func(sections []github.Section, room int) string { return strings.Repeat("x", room) }
		got := upsert(t, c, p)
		if n := len(got.Comment.Body); n != github.MaxComment {
			t.Errorf("comment of %d bytes", n)
		}
	}
	p := post("leg9", 9, `1`)
	got := upsert(t, c, p)
	var legs []string
	sections, _ := github.SectionsOf(got.Comment.Body, "imgbake")
	for _, s := range sections {
		legs = append(legs, s.Leg)
	}
	if text := fmt.Sprint(legs); text != "[leg3 leg4 leg5 leg9]" {
		t.Errorf("kept %s", text)
	}
	p.Section.Run, p.Render = 10, func([]github.Section, int) string { return strings.Repeat("é", 40_000) }
	if got := upsert(t, c, p); len(got.Comment.Body) > github.MaxComment || !strings.Contains(got.Comment.Body, "too long") {
		t.Errorf("text that does not fit: %d bytes", len(got.Comment.Body))
	}
}

// noise cannot be packed well.
func noise(n int) string {
	chance := rand.New(rand.NewPCG(1, uint64(n)))
	out := make([]byte, n)
	for i := range out {
		out[i] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/"[chance.IntN(64)]
	}
	return string(out)
}

// A state that we did not write is none.
func TestSectionsOfOthers(t *testing.T) {
	a, b := post("a", 1, `1`).Section, post("b", 1, `1`).Section
	for name, sections := range map[string][]github.Section{
		"unsorted": {b, a}, "twice": {a, a}, "no name": {post("", 1, `1`).Section}, "long name": {post(noise(500), 1, `1`).Section},
	} {
		if got, ok := github.SectionsOf(github.Header("imgbake", sections), "imgbake"); ok {
			t.Errorf("%s: read %s", name, show(got, 0))
		}
	}
	if got, ok := github.SectionsOf(github.Header("imgbake", []github.Section{a, b}), "imgbake"); !ok || len(got) != 2 {
		t.Errorf("ours: %v", got)
	}
}

func FuzzSections(f *testing.F) {
	p := post("a", 1, `"x"`)
	f.Add(github.Body(p, []github.Section{p.Section}))
	f.Add("<!-- imgbake:comment aW1nYmFrZQ==  -->\n")
	f.Fuzz(func(t *testing.T, body string) {
		sections, ok := github.SectionsOf(body, "imgbake")
		if !ok {
			return
		}
		again, ok := github.SectionsOf(github.Body(p, sections), "imgbake")
		if !ok || show(again, 0) != show(sections, 0) {
			t.Errorf("%s became %s", show(sections, 0), show(again, 0))
		}
	})
}
