package github

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Post is one job's share of a comment that several jobs write.
type Post struct {
	Repository Repository
	Number     int    // of the pull request
	Key        string // tells one comment on the pull request from another
	Author     User   // Whoami: comments of others are never touched, whatever they hold
	Section    Section

	// Render makes the text of all sections, in at most room bytes. It must
	// depend on nothing else.
	Render func(sections []Section, room int) string
}

// Posted is what became of a Post.
type Posted struct {
	Comment Comment
	Outcome Outcome
}

// Outcome says how a comment came to hold a section.
type Outcome string

// The outcomes.
const (
	Created    Outcome = "created"
	Updated    Outcome = "updated"
	Unchanged  Outcome = "unchanged"
	Superseded Outcome = "superseded" // a later run has written this section already
)

const (
	maxRounds = 12
	// lease is how long a job may hold the lock; who finds an older one breaks
	// it. A holder gives up long before.
	lease      = time.Minute
	holdAtMost = lease / 2
	// lockPatience is how often the lock is asked for: about five minutes.
	lockPatience = 40
	settle       = 3 * time.Second
)

// upsert is one Upsert under way.
type upsert struct {
	Post
	client *Client
	wrote  Outcome
}

// Upsert puts a section into the one comment on a pull request that has the
// key and the author, and makes the comment if there is none. The sections of
// other jobs stay, also when they write at the same time.
//
// GitHub replaces a comment's text without looking what it replaces. So there
// is a lock: a reaction on the comment, of which GitHub makes only one for an
// account and says to whom it gave it. And since comments that do not exist
// cannot be locked, jobs that make one at the same time look again: the oldest
// is the comment, and the others are merged into it and deleted.
func (c *Client) Upsert(ctx context.Context, p Post) (Posted, error) {
	data, err := normal(p.Section)
	if err != nil {
		return Posted{}, fmt.Errorf("section %q of comment %q: %w", p.Section.Leg, p.Key, err)
	}
	p.Section = data
	u := &upsert{Post: p, client: c, wrote: Unchanged}
	for n := range maxRounds {
		mine, err := u.mine(ctx)
		if err != nil {
			return Posted{}, err
		}
		if len(mine) > 0 && u.settled(mine[0]) {
			return Posted{mine[0], u.outcome(mine[0])}, nil
		}
		if err := u.write(ctx, mine); err != nil {
			return Posted{}, err
		}
		if n > 1 {
			if err := u.pause(ctx, time.Second<<min(n, 3)); err != nil {
				return Posted{}, err
			}
		}
	}
	return Posted{}, fmt.Errorf("comment %q on pull request %d of %s: section %q did not last through %d writes; do two jobs use the same name?",
		p.Key, p.Number, p.Repository, p.Section.Leg, maxRounds)
}

// mine lists the comments that are ours and have the key. The first is the
// one that counts.
func (u *upsert) mine(ctx context.Context) ([]Comment, error) {
	all, err := u.client.Comments(ctx, u.Repository, u.Number)
	var mine []Comment
	for _, c := range all {
		if c.Author.Is(u.Author) && hasKey(c.Body, u.Key) {
			mine = append(mine, c)
		}
	}
	oldestFirst(mine)
	return mine, err
}

// settled reports whether writing would change nothing.
func (u *upsert) settled(c Comment) bool {
	there, ok := sectionsOf(c.Body, u.Key)
	return ok && sameSections(there, merge(there, []Section{u.Section}))
}

func (u *upsert) outcome(c Comment) Outcome {
	there, _ := sectionsOf(c.Body, u.Key)
	for _, s := range there {
		if s.Leg == u.Section.Leg && u.Section.before(s) {
			return Superseded
		}
	}
	return u.wrote
}

// write makes the comment, or changes it under the lock. It need not succeed:
// the next round looks.
func (u *upsert) write(ctx context.Context, mine []Comment) error {
	if len(mine) == 0 {
		_, err := u.client.CreateComment(ctx, u.Repository, u.Number, u.body([]Section{u.Section}))
		if err == nil {
			u.wrote = Created
		}
		return u.bearable(ctx, err)
	}
	if u.wrote == Unchanged {
		u.wrote = Updated
	}
	unlock, err := u.lock(ctx, mine[0].ID)
	if err != nil || unlock == nil {
		return err
	}
	defer unlock()
	held, cancel := context.WithTimeout(ctx, holdAtMost)
	defer cancel()
	return u.bearable(ctx, u.mergeAll(held, mine[0].ID))
}

// mergeAll brings the sections of all our comments and our own into the first
// of them, and deletes the others.
func (u *upsert) mergeAll(ctx context.Context, first int64) error {
	mine, err := u.mine(ctx) // what was read before the lock may be old
	if err != nil || len(mine) == 0 || mine[0].ID != first {
		return err
	}
	var sections []Section
	for _, c := range mine {
		there, _ := sectionsOf(c.Body, u.Key)
		sections = merge(sections, there)
	}
	if _, err := u.client.UpdateComment(ctx, u.Repository, first, u.body(merge(sections, []Section{u.Section}))); err != nil {
		return err
	}
	for _, c := range mine[1:] {
		if err := u.client.DeleteComment(ctx, u.Repository, c.ID); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return nil
}

// bearable drops the errors after which the next round does better: the
// comment is gone, the lock was held too long, the answer was lost.
func (u *upsert) bearable(ctx context.Context, err error) error {
	var answer *Error
	switch {
	case err == nil || ctx.Err() != nil:
		return ctx.Err()
	case !errors.As(err, &answer), errors.Is(err, ErrNotFound), answer.Status >= 500:
		u.client.notify(err.Error() + "; looking again")
		return u.pause(ctx, time.Second)
	}
	return err
}

func (u *upsert) pause(ctx context.Context, d time.Duration) error {
	return u.client.sleep(ctx, d/2+rand.N(d))
}

func (u *upsert) body(sections []Section) string {
	head := header(u.Key, sections)
	text := u.Render(sections, MaxComment-len(head))
	if len(head)+len(text) > MaxComment {
		text = "This comment is too long to be shown.\n" // half of it could be read as something else
	}
	return head + text
}

// sameSections compares what two states hold.
func sameSections(a, b []Section) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].Leg != b[i].Leg || a[i].Run != b[i].Run || a[i].Attempt != b[i].Attempt || !bytes.Equal(a[i].Data, b[i].Data) {
			return false
		}
	}
	return true
}
