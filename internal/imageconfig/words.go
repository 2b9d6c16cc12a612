package imageconfig

import (
	"errors"
	"strings"
)

// splitWords cuts at white space outside quotes. Quotes and backslashes stay in
// the words for unquote.
func splitWords(s string) ([]string, error) {
	var words []string
	var word strings.Builder
	var quote rune
	escaped, started := false, false
	for _, r := range s {
		switch {
		case escaped:
			escaped = false
		case r == '\\' && quote != '\'':
			escaped = true
		case quote != 0:
			if r == quote {
				quote = 0
			}
		case r == '\'' || r == '"':
			quote = r
		case r == ' ' || r == '\t' || r == '\n':
			if started {
				words = append(words, word.String())
				word.Reset()
				started = false
			}
			continue
		}
		started = true
		word.WriteRune(r)
	}
	if quote != 0 {
		return nil, errors.New("a quote is not closed: " + s)
	}
	if started {
		words = append(words, word.String())
	}
	return words, nil
}

// Unquote takes quotes and backslashes away and expands $NAME, ${NAME},
// ${NAME:-word} and ${NAME:+word} outside single quotes.
func Unquote(s string, env []string) string {
	var out strings.Builder
	var quote byte
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case quote == '\'':
			if c == '\'' {
				quote = 0
			} else {
				out.WriteByte(c)
			}
		case c == '\\' && i+1 < len(s):
			i++
			if quote == '"' && !strings.ContainsRune(`"\$`, rune(s[i])) {
				out.WriteByte('\\')
			}
			out.WriteByte(s[i])
		case c == '"':
			if quote == 0 {
				quote = '"'
			} else {
				quote = 0
			}
		case c == '\'' && quote == 0:
			quote = '\''
		case c == '$':
			val, used := expand(s[i+1:], env)
			if used == 0 {
				out.WriteByte('$')
			}
			out.WriteString(val)
			i += used
		default:
			out.WriteByte(c)
		}
	}
	return out.String()
}

// expand reads a variable after its dollar sign and tells how much of s it used.
func expand(s string, env []string) (val string, used int) {
	if strings.HasPrefix(s, "{") {
		end := strings.IndexByte(s, '}')
		if end < 0 {
			return "", 0
		}
		return expandBraced(s[1:end], env), end + 1
	}
	for used < len(s) && isNameByte(s[used], used) {
		used++
	}
	if used == 0 {
		return "", 0
	}
	return Lookup(env, s[:used]), used
}

func expandBraced(inner string, env []string) string {
	if name, word, ok := strings.Cut(inner, ":-"); ok {
		if val := Lookup(env, name); val != "" {
			return val
		}
		return Unquote(word, env)
	}
	if name, word, ok := strings.Cut(inner, ":+"); ok {
		if Lookup(env, name) == "" {
			return ""
		}
		return Unquote(word, env)
	}
	return Lookup(env, inner)
}

func isNameByte(c byte, at int) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || at > 0 && c >= '0' && c <= '9'
}

// Lookup finds the value of a variable in K=V.
func Lookup(env []string, name string) string {
	for _, e := range env {
		if key, val, ok := strings.Cut(e, "="); ok && key == name {
			return val
		}
	}
	return ""
}
