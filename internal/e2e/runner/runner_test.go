package runner

import (
	"slices"
	"testing"
)

func TestReadPairs(t *testing.T) {
	got, err := ReadPairs("a=1\nb<<END\none\na=2\nEND\nc=x<<y\na=3\n")
	if err != nil || got["a"] != "3" || got["b"] != "one\na=2" || got["c"] != "x<<y" {
		t.Errorf("got %q, %v", got, err)
	}
	for _, bad := range []string{"nothing", "a<<END\nno end\n"} {
		if _, err := ReadPairs(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestReadLog(t *testing.T) {
	shown, commands, masks := ReadLog("::add-mask::hush\n  ::error file=a.yaml,line=3::no%0Away\nx ##[warning]hm\n::stop-commands::tok\n::error::not heard\n::tok::\n: :error::text\nhush!\n")
	var names []string
	for _, c := range commands {
		names = append(names, c.Name)
	}
	if want := []string{"add-mask", "error", "warning", "stop-commands"}; !slices.Equal(names, want) {
		t.Fatalf("commands %q, want %q", names, want)
	}
	if c := commands[1]; c.Properties["line"] != "3" || c.Data != "no\nway" {
		t.Errorf("got %+v", c)
	}
	if want := "::error::not heard\n: :error::text\n***!\n"; shown != want || !slices.Equal(masks, []string{"hush"}) {
		t.Errorf("shown %q, masks %q", shown, masks)
	}
}
