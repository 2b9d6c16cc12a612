package secret

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestValueIsNeverPrinted(t *testing.T) {
	v := New("hunter2-s3cr3t")
	asJSON, err := json.Marshal(map[string]any{"v": v, "p": &v})
	if err != nil {
		t.Fatal(err)
	}
	type holder struct{ V Value }
	for _, got := range []string{
		fmt.Sprint(v), fmt.Sprintf("%s %v %+v %#v %q", v, v, v, v, v), fmt.Sprintf("%+v %#v", holder{v}, &holder{v}), string(asJSON),
	} {
		if strings.Contains(got, "hunter2") || !strings.Contains(got, Mask) {
			t.Errorf("got %q", got)
		}
	}
	if v.Reveal() != "hunter2-s3cr3t" || v.IsZero() || !New("").IsZero() || New("").String() != "" {
		t.Error("Reveal, IsZero or String is wrong")
	}
}
