package sleep

import (
	"testing"

	"github.com/imgbake/imgbake-action/internal/bake/baketest"
)

func TestSuite(t *testing.T) {
	baketest.ProvisionerSuite(t, baketest.ProvisionerOptions{
		Kind: Kind(),
		Good: map[string]map[string]any{"a moment": {"duration": "1ms"}},
		Bad: map[string]map[string]any{
			"nothing":   {},
			"no unit":   {"duration": "5"},
			"backwards": {"duration": "-5s"},
		},
	})
	if got, want := Kind().Title(baketest.Body(map[string]any{"duration": "90s"})), "1m30s"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
