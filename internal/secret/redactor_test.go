package secret

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

func redactor(t testing.TB, secrets ...string) *Redactor {
	t.Helper()
	var r Redactor
	if err := r.Add(secrets...); err != nil {
		t.Fatal(err)
	}
	return &r
}

func TestRedact(t *testing.T) {
	r := redactor(t, "hunter2-s3cr3t", "abcdef", "defghi", "line one\nline two\r\n}\n")
	tests := map[string]struct{ in, want string }{
		"nothing":          {"plain text", "plain text"},
		"raw":              {"a hunter2-s3cr3t b", "a *** b"},
		"two that overlap": {"<abcdefghi>", "<***>"},
		"two that touch":   {"<abcdefabcdef>", "<***>"},
		"a beginning only": {"hunter2-s3cr3", "hunter2-s3cr3"},
		"twice":            {"abcdef abcdef", "*** ***"},
		"one line of two":  {"x line two y", "x *** y"},
		"a short line":     {"}", "}"},
		"base64":           {base64.StdEncoding.EncodeToString([]byte("hunter2-s3cr3t")), "***"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := r.Redact(test.in); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestAddRefuses(t *testing.T) {
	tests := map[string]struct {
		value string
		taken bool
	}{
		"empty":       {"", true},
		"blank":       {" \n", true},
		"short":       {"abcde", false},
		"short+space": {"abcde\n\n", false},
		"common word": {"Password", false},
		"long":        {strings.Repeat("x", MaxLength+1), false},
		"enough":      {"abcdeé", true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var r Redactor
			err := r.Add(test.value)
			if (err == nil) != test.taken {
				t.Fatalf("got %v", err)
			}
			if err != nil && (!errors.Is(err, ErrUnmaskable) || strings.Contains(err.Error(), strings.TrimSpace(test.value))) {
				t.Errorf("error shows the value or does not wrap ErrUnmaskable: %.80v", err)
			}
		})
	}
	var r Redactor
	r.AddShort("pin42", "password")
	if got, want := r.Redact("pin42 password pin4"), "*** *** pin4"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := r.Add("no", "long enough"); err == nil || r.Redact("long enough") != Mask {
		t.Errorf("a refused value keeps its neighbour out: %v", err)
	}
}

func TestWriterHoldsBackOnlyABeginning(t *testing.T) {
	r := redactor(t, "hunter2-s3cr3t")
	steps := []struct{ in, want string }{
		{"hello ", "hello "},
		{"h", ""},
		{"ello\n", "hello\n"},
		{"x hunter2", "x "},
		{"-s3cr3t", "***"},
		{" rest\n", " rest\n"},
	}
	var out bytes.Buffer
	w := r.Writer(&out)
	for _, s := range steps {
		out.Reset()
		if n, err := w.Write([]byte(s.in)); n != len(s.in) || err != nil {
			t.Fatalf("Write(%q) = %d, %v", s.in, n, err)
		}
		if out.String() != s.want {
			t.Errorf("after %q: got %q, want %q", s.in, out.String(), s.want)
		}
	}
	out.Reset()
	fmt.Fprint(w, "hunter")
	if err := w.Close(); err != nil || out.String() != "hunter" {
		t.Errorf("Close: got %q, %v", out.String(), err)
	}
}

func TestAddWhileWriting(t *testing.T) {
	var r Redactor
	var out bytes.Buffer
	w := r.Writer(&out)
	fmt.Fprint(w, "first-secret ")
	_ = r.Add("first-secret")
	fmt.Fprint(w, "first-se")
	_ = r.Add("second-secret")
	fmt.Fprint(w, "cret second-secret")
	_ = w.Flush()
	if got, want := out.String(), "first-secret *** ***"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestWriterReturnsErrors(t *testing.T) {
	w := redactor(t, "hunter2-s3cr3t").Writer(failing{})
	if _, err := w.Write([]byte("x")); err == nil {
		t.Error("got no error")
	}
}

func TestConcurrentUse(t *testing.T) {
	var r Redactor
	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() {
			var out bytes.Buffer
			w := r.Writer(&out)
			s := fmt.Sprintf("secret-number-%d", i)
			_ = r.Add(s)
			for range 50 {
				fmt.Fprint(w, "<", s, ">")
			}
			_ = w.Flush()
			if strings.Contains(out.String(), s) {
				t.Errorf("%s is shown", s)
			}
		})
	}
	group.Wait()
}

var alphabet = []rune("abcXYZ0189 '\"\\$`!%&+/=?#:;<>\n\t~^éß漢😀")

func randomSecret(rnd *rand.Rand) string {
	n := 14 + rnd.IntN(90)
	var b strings.Builder
	for range n {
		b.WriteRune(alphabet[rnd.IntN(len(alphabet))])
	}
	return "k" + b.String() + "z"
}

// encodings are written apart from the package's own forms, as programs print.
var encodings = map[string]func(string) string{
	"raw":        func(s string) string { return s },
	"query":      url.QueryEscape,
	"path":       url.PathEscape,
	"hex":        func(s string) string { return hex.EncodeToString([]byte(s)) },
	"HEX":        func(s string) string { return fmt.Sprintf("%X", s) },
	"go":         func(s string) string { return fmt.Sprintf("%q", s) },
	"json":       func(s string) string { b, _ := json.Marshal(s); return string(b) },
	"base64":     func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
	"base64 raw": func(s string) string { return base64.RawStdEncoding.EncodeToString([]byte(s)) },
	"base64 url": func(s string) string { return base64.URLEncoding.EncodeToString([]byte(s)) },
	"base64 +1":  func(s string) string { return base64.StdEncoding.EncodeToString([]byte("#" + s + "\n")) },
	"base64 +2":  func(s string) string { return base64.StdEncoding.EncodeToString([]byte("u:" + s + "@host")) },
	"single":     func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" },
	"single 2":   func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'"'"'`) + "'" },
}

// canary is the middle of an encoding, where no neighbour's bits reach.
func canary(enc string) string { return enc[4 : len(enc)-5] }

func TestRedactHidesEveryForm(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 25 {
		s := randomSecret(rnd)
		r := redactor(t, s, "another-one-"+randomSecret(rnd))
		for name, encode := range encodings {
			enc := encode(s)
			text := "before <" + enc + "> after"
			got := inChunks(rnd, r, text)
			if strings.Contains(got, canary(enc)) {
				t.Fatalf("%s of %q is shown: %q", name, s, got)
			}
			if !strings.HasPrefix(got, "before <") || !strings.HasSuffix(got, "> after") {
				t.Fatalf("%s of %q: text around it is gone: %q", name, s, got)
			}
			if whole := r.Redact(text); whole != got {
				t.Fatalf("%s of %q: chunks give %q, one write %q", name, s, got, whole)
			}
		}
		for _, form := range Forms(s) {
			if got := inChunks(rnd, r, "<"+form+">"); got != "<***>" {
				t.Fatalf("form %q of %q gives %q", form, s, got)
			}
		}
	}
}

func inChunks(rnd *rand.Rand, r *Redactor, text string) string {
	var out bytes.Buffer
	w := r.Writer(&out)
	for len(text) > 0 {
		n := min(len(text), 1+rnd.IntN(64))
		_, _ = w.Write([]byte(text[:n]))
		text = text[n:]
	}
	_ = w.Flush()
	return out.String()
}

func TestShellsQuoteAsExpected(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip("no bash here")
	}
	secrets := []string{`it's "5$" & more`, "two\nlines\tof it", `back\slash!`, "ümläut-öx", "plain-word-1"}
	for _, s := range secrets {
		r := redactor(t, s)
		for _, script := range []string{`printf %q "$1"`, `printf %s "${1@Q}"`, `set -x; : "$1"`, `declare -p 1 2>/dev/null || { v=$1; declare -p v; }`} {
			out, err := exec.Command(bash, "-c", script, "bash", s).CombinedOutput()
			if err != nil {
				t.Fatal(err)
			}
			got := r.Redact(string(out))
			for i := range len(s) - 5 {
				if strings.Contains(got, s[i:i+5]) {
					t.Errorf("%s shows %q of %q: %q", script, s[i:i+5], s, got)
					break
				}
			}
		}
	}
}

func TestLongSecrets(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	raw := make([]byte, 6000)
	for i := range raw {
		raw[i] = byte(33 + rnd.IntN(90))
	}
	s := string(raw)
	r := redactor(t, s)
	for _, text := range []string{s, base64.StdEncoding.EncodeToString([]byte(":" + s)), fmt.Sprintf("%x", s)} {
		if got := inChunks(rnd, r, text); len(got) > 40 {
			t.Errorf("%d of %d bytes are left", len(got), len(text))
		}
	}
	for _, width := range []int{64, 76} {
		var wrapped strings.Builder
		b64 := base64.StdEncoding.EncodeToString([]byte(s))
		for i := 0; i < len(b64); i += width {
			wrapped.WriteString(b64[i:min(len(b64), i+width)] + "\n")
		}
		if got := redactor(t, s).Redact(wrapped.String()); len(got) > 5*6000*4/3/width+40 {
			t.Errorf("base64 in lines of %d is shown: %q", width, got)
		}
	}
}

func FuzzRedactor(f *testing.F) {
	f.Add("hunter2-s3cr3t", "x hunter2-s3cr3t y", uint8(3))
	f.Add("aaaaaa", "aaaaaaaaaaaaaaab", uint8(1))
	f.Add("a'b\"c$d`e\\f\ng", "text", uint8(7))
	f.Add("ababab", "abababab ababa", uint8(2))
	f.Fuzz(func(t *testing.T, s, text string, chunk uint8) {
		var r Redactor
		if len(s) > 200 || len(text) > 5000 || r.Add(s) != nil {
			t.Skip()
		}
		text = text + s + text
		var out bytes.Buffer
		w := r.Writer(&out)
		for rest := text; rest != ""; {
			n := min(len(rest), 1+int(chunk))
			_, _ = w.Write([]byte(rest[:n]))
			rest = rest[n:]
		}
		_ = w.Close()
		if got := out.String(); got != r.Redact(text) {
			t.Errorf("chunks of %d give %q, one write %q", 1+int(chunk), got, r.Redact(text))
		}
		if trimmed := strings.TrimSpace(s); trimmed != "" && !strings.Contains(Mask, trimmed) && !strings.Contains(trimmed, "*") &&
			strings.Contains(out.String(), trimmed) {
			t.Errorf("%q is shown in %q", s, out.String())
		}
	})
}

func BenchmarkWriter(b *testing.B) {
	rnd := rand.New(rand.NewPCG(5, 6))
	var r Redactor
	for range 50 {
		_ = r.Add(randomSecret(rnd))
	}
	line := []byte("Get:12 http://deb.debian.org/debian bookworm/main amd64 libfoo-dev amd64 1.2.3-4 [1,234 kB]\n")
	w := r.Writer(&bytes.Buffer{})
	w.to = discard{}
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		_, _ = w.Write(line)
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
