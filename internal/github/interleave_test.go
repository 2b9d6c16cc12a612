package github_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imgbake/imgbake-action/internal/github"
	"github.com/imgbake/imgbake-action/internal/github/githubtest"
	"github.com/imgbake/imgbake-action/internal/secret"
)

// An actor is one job whose requests happen one at a time, when it is told.
type actor struct {
	world   *world
	wants   chan string   // what it is about to do; closed at its end
	granted chan struct{} // that it may
	doing   string
	done    bool
	slept   int    // the world's version when it went to sleep
	seen    string // digest of all answers so far: with it, what it does next is certain
	err     error
}

// world is one run of all actors against one server.
type world struct {
	server  *githubtest.Server
	actors  []*actor
	version int // counts writes
	over    chan struct{}
	slow    bool // requests take longer than anybody sleeps
	trace   []string
}

// step waits for its turn.
func (a *actor) step(ctx context.Context, what string) error {
	a.wants <- what
	select {
	case <-a.granted:
		return nil
	case <-a.world.over: // also for what a job does when it was cancelled
		return context.Canceled
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (a *actor) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := a.step(r.Context(), r.Method+" "+strings.TrimPrefix(r.URL.Path, "/api/v3/repos/o/r/issues")); err != nil {
		return nil, err
	}
	resp, err := a.world.server.RoundTrip(r)
	if r.Method != http.MethodGet {
		a.world.version++
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body = io.NopCloser(bytes.NewReader(body))
	a.remember(fmt.Sprint(resp.StatusCode, string(body)))
	return resp, err
}

func (a *actor) sleep(ctx context.Context, _ time.Duration) error {
	a.slept = a.world.version
	err := a.step(ctx, "sleep")
	a.remember("slept")
	return err
}

func (a *actor) remember(what string) {
	a.seen = fmt.Sprintf("%x", sha256.Sum256([]byte(a.seen+what)))
}

// ready reports whether an actor may go on. A sleeper wakes up when something
// has changed.
func (a *actor) ready() bool {
	return !a.done && (a.doing != "sleep" || a.world.version > a.slept || a.world.slow)
}

// next waits until an actor says what it wants, or ends.
func (a *actor) next() {
	what, ok := <-a.wants
	a.doing, a.done = what, !ok
}

func (w *world) ready() []int {
	var out, sleeping []int
	for i, a := range w.actors {
		if a.ready() {
			out = append(out, i)
		} else if !a.done {
			sleeping = append(sleeping, i)
		}
	}
	if out == nil {
		return sleeping // nobody will wake them: their time is up
	}
	return out
}

func (w *world) key() string {
	key := w.server.State()
	for _, a := range w.actors {
		key += fmt.Sprint("|", a.seen, a.doing, a.ready(), a.done)
	}
	return key
}

// A scenario is a server and the jobs that use it at once.
type scenario struct {
	setup func(*githubtest.Server)
	jobs  []func(context.Context, *github.Client) error
	slow  bool
}

// explore runs a scenario in every order of requests that makes a difference,
// and calls check at the end of each. A state of the server and of all jobs
// that was seen before is not followed again.
func explore(t *testing.T, s scenario, check func(*world)) (runs, states int) {
	visited := map[string]bool{}
	var prefix []int
	for {
		width := s.run(t, prefix, visited, check, &prefix)
		runs++
		for len(width) > 0 && prefix[len(width)-1]+1 >= width[len(width)-1] {
			width = width[:len(width)-1]
		}
		if len(width) == 0 {
			return runs, len(visited)
		}
		prefix = slices.Clone(prefix[:len(width)])
		prefix[len(prefix)-1]++
	}
}

// run follows the choices given and then the first ones. It returns how many
// there were at each place, and the choices taken.
func (s scenario) run(t *testing.T, prefix []int, visited map[string]bool, check func(*world), taken *[]int) (width []int) {
	ctx, cancel := context.WithCancel(t.Context())
	w := s.start(t, ctx)
	var choices []int
	defer func() {
		cancel()
		close(w.over)
		for _, a := range w.actors {
			for !a.done {
				a.next()
			}
		}
		*taken = choices
	}()
	for {
		ready := w.ready()
		if len(ready) == 0 {
			check(w)
			return width
		}
		choice := 0
		if len(ready) > 1 {
			if n := len(choices); n < len(prefix) {
				choice = prefix[n] % len(ready)
			} else if key := w.key(); visited[key] {
				return width
			} else {
				visited[key] = true
			}
			choices, width = append(choices, choice), append(width, len(ready))
		}
		a := w.actors[ready[choice]]
		w.trace = append(w.trace, fmt.Sprintf("%d: %s", ready[choice], a.doing))
		a.granted <- struct{}{}
		a.next()
	}
}

func (s scenario) start(t *testing.T, ctx context.Context) *world {
	server := githubtest.InProcess(t)
	server.Unchecked = true
	s.setup(server)
	w := &world{server: server, over: make(chan struct{}), slow: s.slow}
	for _, job := range s.jobs {
		a := &actor{world: w, wants: make(chan string), granted: make(chan struct{})}
		client, err := github.New(github.Options{
			BaseURL: server.URL, Token: secret.New("actions"), Transport: a, Sleep: a.sleep, Retries: 1,
		})
		if err != nil {
			t.Fatal(err)
		}
		w.actors = append(w.actors, a)
		go func() {
			defer close(a.wants)
			a.err = job(ctx, client)
		}()
		a.next()
	}
	return w
}

// legs are jobs that write one section each.
func legs(names ...string) []func(context.Context, *github.Client) error {
	var out []func(context.Context, *github.Client) error
	for _, name := range names {
		out = append(out, func(ctx context.Context, c *github.Client) error {
			_, err := c.Upsert(ctx, post(name, 2, `"`+name+`"`))
			return err
		})
	}
	return out
}

// holds checks that one comment is left, unlocked, and has the sections.
func holds(t *testing.T, w *world, want string) {
	t.Helper()
	var ours []githubtest.Comment
	for _, c := range w.server.Comments("o/r", 7) {
		if c.Author == githubtest.ActionsBot {
			ours = append(ours, c)
		}
	}
	for i, a := range w.actors {
		if a.err != nil {
			t.Errorf("job %d: %v", i, a.err)
		}
	}
	if len(ours) != 1 || !strings.HasSuffix(ours[0].Body, want) || w.server.Reactions(ours[0].ID) != 0 {
		t.Errorf("comments %+v, want one that ends in %q, without a reaction", ours, want)
	}
	if t.Failed() {
		t.Fatalf("after\n%s", strings.Join(w.trace, "\n"))
	}
}

// There is no order of requests in which a section is lost or a second comment
// stays.
func TestUpsertInEveryOrder(t *testing.T) {
	body := github.Body(post("old", 1, `"x"`), []github.Section{post("a", 1, `"A1"`).Section, post("old", 1, `"x"`).Section})
	nothing := func(*githubtest.Server) {}
	there := func(s *githubtest.Server) { s.AddComment("o/r", 7, githubtest.ActionsBot, body) }
	for _, c := range []struct {
		name  string
		setup func(*githubtest.Server)
		jobs  []string
		want  string
	}{
		{"two first creations", nothing, []string{"a", "b"}, `[a@2:"a" b@2:"b"]`},
		{"two updates", there, []string{"a", "b"}, `[a@2:"a" b@2:"b" old@1:"x"]`},
		{"a duplicate is there", func(s *githubtest.Server) {
			there(s)
			left := post("left", 1, `"by a dead job"`)
			s.AddComment("o/r", 7, githubtest.ActionsBot, github.Body(left, []github.Section{left.Section}))
		}, []string{"a", "b"}, `[a@2:"a" b@2:"b" left@1:"by a dead job" old@1:"x"]`},
		{"a stranger's marker", func(s *githubtest.Server) {
			s.AddComment("o/r", 7, githubtest.User{ID: 5, Login: "mallory", Type: "User"}, body)
		}, []string{"a", "b"}, `[a@2:"a" b@2:"b"]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			runs, states := explore(t, scenario{setup: c.setup, jobs: legs(c.jobs...)}, func(w *world) { holds(t, w, c.want) })
			t.Logf("%d orders, %d states", runs, states)
		})
	}
}

// Somebody deletes the comment while a job writes it. The job's section is in
// what is left, or it was deleted after all was done.
func TestUpsertWhileDeleted(t *testing.T) {
	p := post("old", 1, `"x"`)
	body := github.Body(p, []github.Section{p.Section})
	person := func(ctx context.Context, c *github.Client) error {
		all, err := c.Comments(ctx, p.Repository, 7)
		if err == nil {
			err = c.DeleteComment(ctx, p.Repository, all[0].ID)
		}
		return err
	}
	for _, there := range []int{1, 2} {
		setup := func(s *githubtest.Server) {
			for range there {
				s.AddComment("o/r", 7, githubtest.ActionsBot, body)
			}
		}
		explore(t, scenario{setup: setup, jobs: append(legs("a"), person)}, func(w *world) {
			left := w.server.Comments("o/r", 7)
			late := strings.HasPrefix(w.trace[len(w.trace)-1], "1: DELETE") || len(left) == 0
			if w.actors[0].err != nil || len(left) > 1 || !late && !strings.Contains(left[0].Body, `a@2:"a"`) {
				t.Fatalf("%v, left %+v after\n%s", w.actors[0].err, left, strings.Join(w.trace, "\n"))
			}
		})
	}
}

// More jobs have too many orders: some of them, by chance.
func TestUpsertOfManyJobs(t *testing.T) {
	chance := rand.New(rand.NewPCG(1, 2))
	for range 30 {
		s := scenario{setup: func(*githubtest.Server) {}, jobs: legs("a", "b", "c", "d", "e")}
		prefix := make([]int, 400)
		for i := range prefix {
			prefix[i] = chance.IntN(len(s.jobs))
		}
		s.run(t, prefix, map[string]bool{}, func(w *world) {
			holds(t, w, `[a@2:"a" b@2:"b" c@2:"c" d@2:"d" e@2:"e"]`)
		}, &prefix)
	}
}

// Where there is no lock, others get the time to write before a job looks
// whether its section is still there. That helps unless a request takes longer
// than the wait; then the explorer finds how a section is lost.
func TestUpsertWithoutTheLock(t *testing.T) {
	for slow, want := range map[bool]bool{false: false, true: true} {
		lost := false
		explore(t, scenario{func(s *githubtest.Server) {
			s.AddComment("o/r", 7, githubtest.ActionsBot, github.Body(post("old", 1, `"x"`), nil))
			forbidden := slices.Repeat([]githubtest.Fault{githubtest.Integration}, 20)
			s.Inject("POST /repos/*/*/issues/comments/*/reactions", forbidden...)
		}, legs("a", "b"), slow}, func(w *world) {
			lost = lost || !strings.HasSuffix(w.server.Comments("o/r", 7)[0].Body, `[a@2:"a" b@2:"b"]`)
		})
		if lost != want {
			t.Errorf("slow requests %t: lost a section: %t, want %t", slow, lost, want)
		}
	}
}
