package breakpoint

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/bake/baketest"
)

// person answers, or not.
type person struct {
	asked []string
	err   error
}

func (p *person) Ask(ctx context.Context, question string, _ ...string) (string, error) {
	p.asked = append(p.asked, question)
	return "", errors.Join(p.err, ctx.Err())
}

func TestSuite(t *testing.T) {
	baketest.ProvisionerSuite(t, baketest.ProvisionerOptions{
		Kind: Kind(),
		Env:  func(_ *testing.T, env *bake.Env) { env.Ask = &person{} },
		Good: map[string]map[string]any{"plain": {}, "note": {"note": "look\n\x1b[2J here"}},
		Bad:  map[string]map[string]any{"a list": {"disable": []any{1}}},
	})
}

func TestProvision(t *testing.T) {
	gone := errors.New("terminal is gone")
	tests := map[string]struct {
		body   map[string]any
		person *person
		asked  []string
		notes  []string
		err    error
	}{
		"asks":     {map[string]any{"note": "look"}, &person{}, []string{"breakpoint: look. Press enter to go on"}, nil, nil},
		"disabled": {map[string]any{"disable": true}, &person{}, nil, []string{"breakpoint (disabled)"}, nil},
		"nobody":   {map[string]any{"note": "look"}, nil, nil, []string{"breakpoint: look (going on: nobody is there to answer)"}, nil},
		"fails":    {nil, &person{err: gone}, []string{"breakpoint. Press enter to go on"}, nil, gone},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p, err := Kind().New(baketest.Body(test.body))
			if err != nil {
				t.Fatal(err)
			}
			sink := &baketest.Sink{}
			env := bake.Env{Sink: sink}
			var asked []string
			if test.person != nil {
				env.Ask = test.person
			}
			if err := p.Provision(t.Context(), env); !errors.Is(err, test.err) {
				t.Errorf("got %v, want %v", err, test.err)
			}
			if test.person != nil {
				asked = test.person.asked
			}
			if !slices.Equal(asked, test.asked) || !slices.Equal(sink.Texts(bake.Note), test.notes) {
				t.Errorf("asked %q, notes %q", asked, sink.Texts(bake.Note))
			}
		})
	}
}
