package baketest_test

import (
	"errors"
	"testing"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/bake/baketest"
)

func TestFakeBuilder(t *testing.T) {
	baketest.BuilderSuite(t, baketest.BuilderOptions{Fake: true, New: func(*testing.T) (bake.Builder, bake.Job) {
		return &baketest.Builder{}, bake.Job{Name: "web.docker", Type: "docker"}
	}})
}

func TestFakeBuilderFails(t *testing.T) {
	broken := errors.New("broken")
	tests := map[string]struct {
		builder *baketest.Builder
		try     func(m bake.Machine) error
	}{
		"exec": {&baketest.Builder{ExecError: broken}, func(m bake.Machine) error {
			_, err := m.Communicator().Exec(t.Context(), bake.Cmd{})
			return err
		}},
		"put": {&baketest.Builder{PutError: broken}, func(m bake.Machine) error {
			return m.Communicator().Put(t.Context(), "/", nil)
		}},
		"commit": {&baketest.Builder{CommitError: broken}, func(m bake.Machine) error {
			_, err := m.Commit(t.Context(), bake.LayerInfo{})
			return err
		}},
		"close": {&baketest.Builder{CloseError: broken}, bake.Machine.Close},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			m, err := test.builder.Start(t.Context(), bake.Job{})
			if err != nil {
				t.Fatal(err)
			}
			if err := test.try(m); !errors.Is(err, broken) {
				t.Errorf("got %v", err)
			}
			if test.builder.Open() != 1 && name != "close" {
				t.Errorf("open machines: %d", test.builder.Open())
			}
		})
	}
	b := &baketest.Builder{StartError: broken}
	if _, err := b.Start(t.Context(), bake.Job{}); !errors.Is(err, broken) || len(b.Machines()) != 0 {
		t.Errorf("start: got %v and %d machines", err, len(b.Machines()))
	}
}
