package imageconfig

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbake/imgbake-action/internal/diag"
)

// Error says which of the instructions is wrong.
type Error struct {
	Index      int // from 0
	Text, Hint string
}

// Error names the instruction by its place in the list.
func (e *Error) Error() string { return fmt.Sprintf("changes[%d]: %s", e.Index, e.Text) }

// change is one Dockerfile-like instruction, parsed: it changes a config.
type change func(*v1.Config) error

// instructions are those that change a config. Each parses its arguments once;
// variables are expanded when the change is made.
var instructions = map[string]func(args string) (change, error){
	"CMD":         commandChange(func(c *v1.Config, args []string) { c.Cmd = args }),
	"ENTRYPOINT":  commandChange(func(c *v1.Config, args []string) { c.Entrypoint = args }),
	"ENV":         pairsChange(func(c *v1.Config, key, val string) { c.Env = setEnv(c.Env, key, val) }),
	"LABEL":       pairsChange(func(c *v1.Config, key, val string) { c.Labels = with(c.Labels, key, val) }),
	"EXPOSE":      listChange(expose),
	"VOLUME":      listChange(func(c *v1.Config, p string) error { c.Volumes = with(c.Volumes, p, struct{}{}); return nil }),
	"USER":        wordChange(func(c *v1.Config, user string) { c.User = user }),
	"WORKDIR":     wordChange(func(c *v1.Config, dir string) { c.WorkingDir = joinDir(c.WorkingDir, dir) }),
	"STOPSIGNAL":  wordChange(func(c *v1.Config, signal string) { c.StopSignal = signal }),
	"ONBUILD":     onBuild,
	"HEALTHCHECK": healthcheck,
	"SHELL":       shell,
}

// Instruct makes the changes that a list of instructions describes, those of
// docker commit --change. An error is an *Error.
func Instruct(config *v1.Config, lines []string) error {
	for i, line := range lines {
		change, err := parseChange(line)
		if err == nil {
			err = change(config)
		}
		if err != nil {
			return at(i, err)
		}
	}
	return nil
}

// Check parses instructions without making a change.
func Check(lines []string) error {
	for i, line := range lines {
		if _, err := parseChange(line); err != nil {
			return at(i, err)
		}
	}
	return nil
}

func at(i int, err error) error {
	bad := &Error{Index: i, Text: err.Error()}
	var hinted diag.Problem
	if errors.As(err, &hinted) {
		bad.Text, bad.Hint = hinted.Text, hinted.Hint
	}
	return bad
}

func parseChange(line string) (change, error) {
	word, args, _ := strings.Cut(strings.TrimSpace(line), " ")
	args = strings.TrimSpace(args)
	parse, ok := instructions[strings.ToUpper(word)]
	if !ok {
		known := slices.Sorted(maps.Keys(instructions))
		return nil, diag.Problem{Text: fmt.Sprintf("unknown instruction %q", word), Hint: diag.Suggest(word, known)}
	}
	if args == "" {
		return nil, fmt.Errorf("%s needs an argument", strings.ToUpper(word))
	}
	return parse(args)
}

// commandChange parses the exec form, a JSON list, or else the shell form.
func commandChange(set func(*v1.Config, []string)) func(string) (change, error) {
	return func(args string) (change, error) {
		list, isList := jsonList(args)
		return func(c *v1.Config) error {
			if isList {
				set(c, list)
			} else {
				set(c, append(shellOf(c), args))
			}
			return nil
		}, nil
	}
}

// jsonList reads a JSON list of strings.
func jsonList(s string) ([]string, bool) {
	if !strings.HasPrefix(s, "[") {
		return nil, false
	}
	list := []string{}
	if json.Unmarshal([]byte(s), &list) != nil {
		return nil, false
	}
	return list, true
}

func shellOf(c *v1.Config) []string {
	if len(c.Shell) > 0 {
		return slices.Clone(c.Shell)
	}
	return []string{"/bin/sh", "-c"}
}

func pairsChange(set func(c *v1.Config, key, val string)) func(string) (change, error) {
	return func(args string) (change, error) {
		words, err := splitWords(args)
		if err != nil {
			return nil, err
		}
		if !strings.Contains(words[0], "=") { // the old form: NAME the rest of the line
			key, val, ok := strings.Cut(args, " ")
			if !ok {
				return nil, fmt.Errorf("%q is not name=value", args)
			}
			words = []string{key + "=" + strings.TrimSpace(val)}
		}
		for _, w := range words {
			if key, _, ok := strings.Cut(w, "="); !ok || Unquote(key, nil) == "" {
				return nil, fmt.Errorf("%q is not name=value", w)
			}
		}
		return func(c *v1.Config) error {
			env := c.Env // as it was before this line, as in a Dockerfile
			for _, w := range words {
				key, val, _ := strings.Cut(w, "=")
				set(c, Unquote(key, env), Unquote(val, env))
			}
			return nil
		}, nil
	}
}

func listChange(add func(*v1.Config, string) error) func(string) (change, error) {
	return func(args string) (change, error) {
		items, isList := jsonList(args)
		if !isList {
			var err error
			if items, err = splitWords(args); err != nil {
				return nil, err
			}
		}
		return func(c *v1.Config) error {
			for _, item := range items {
				if !isList {
					item = Unquote(item, c.Env)
				}
				if err := add(c, item); err != nil {
					return err
				}
			}
			return nil
		}, nil
	}
}

func wordChange(set func(*v1.Config, string)) func(string) (change, error) {
	return func(args string) (change, error) {
		return func(c *v1.Config) error { set(c, Unquote(args, c.Env)); return nil }, nil
	}
}

func onBuild(args string) (change, error) {
	word, _, _ := strings.Cut(args, " ")
	switch strings.ToUpper(word) {
	case "ONBUILD", "FROM", "MAINTAINER":
		return nil, fmt.Errorf("ONBUILD %s is not allowed", strings.ToUpper(word))
	}
	return func(c *v1.Config) error { c.OnBuild = append(slices.Clone(c.OnBuild), args); return nil }, nil
}

func shell(args string) (change, error) {
	list, ok := jsonList(args)
	if !ok || len(list) == 0 {
		return nil, errors.New(`SHELL needs a JSON list, such as ["/bin/bash", "-c"]`)
	}
	return func(c *v1.Config) error { c.Shell = list; return nil }, nil
}

// healthcheck parses NONE, or flags and a CMD.
func healthcheck(args string) (change, error) {
	check := v1.HealthConfig{}
	for strings.HasPrefix(args, "--") {
		var flag string
		flag, args, _ = strings.Cut(args, " ")
		args = strings.TrimSpace(args)
		if err := healthFlag(&check, flag); err != nil {
			return nil, err
		}
	}
	word, rest, _ := strings.Cut(args, " ")
	rest = strings.TrimSpace(rest)
	switch {
	case strings.EqualFold(word, "NONE") && rest == "":
		check = v1.HealthConfig{Test: []string{"NONE"}}
	case strings.EqualFold(word, "CMD") && rest != "":
		check.Test = []string{"CMD-SHELL", rest}
		if list, ok := jsonList(rest); ok {
			check.Test = append([]string{"CMD"}, list...)
		}
	default:
		return nil, errors.New("HEALTHCHECK needs NONE or CMD and a command")
	}
	return func(c *v1.Config) error { c.Healthcheck = &check; return nil }, nil
}

func healthFlag(check *v1.HealthConfig, flag string) error {
	key, val, _ := strings.Cut(strings.TrimPrefix(flag, "--"), "=")
	if key == "retries" {
		n, err := strconv.Atoi(val)
		if err != nil || n < 1 {
			return fmt.Errorf("HEALTHCHECK --retries=%s: not a positive number", val)
		}
		check.Retries = n
		return nil
	}
	into := map[string]*time.Duration{"interval": &check.Interval, "timeout": &check.Timeout, "start-period": &check.StartPeriod}[key]
	if into == nil {
		return fmt.Errorf("HEALTHCHECK: unknown flag %q", flag)
	}
	d, err := time.ParseDuration(val)
	if err != nil || d < 0 {
		return fmt.Errorf("HEALTHCHECK --%s=%s: not a duration", key, val)
	}
	*into = d
	return nil
}

// expose adds a port or a range of ports; tcp is the default.
func expose(c *v1.Config, spec string) error {
	ports, protocol, ok := strings.Cut(spec, "/")
	if !ok {
		protocol = "tcp"
	}
	protocol = strings.ToLower(protocol)
	if protocol != "tcp" && protocol != "udp" && protocol != "sctp" {
		return fmt.Errorf("port %q: unknown protocol %q", spec, protocol)
	}
	first, last, isRange := strings.Cut(ports, "-")
	if !isRange {
		last = first
	}
	from, err1 := strconv.ParseUint(first, 10, 16)
	to, err2 := strconv.ParseUint(last, 10, 16)
	if err1 != nil || err2 != nil || from == 0 || to < from {
		return fmt.Errorf("port %q is not a number or range", spec)
	}
	all := maps.Clone(c.ExposedPorts)
	if all == nil {
		all = map[string]struct{}{}
	}
	for p := from; p <= to; p++ {
		all[fmt.Sprintf("%d/%s", p, protocol)] = struct{}{}
	}
	c.ExposedPorts = all
	return nil
}

// with returns a copy of the map that also has the key.
func with[V any](m map[string]V, key string, val V) map[string]V {
	out := maps.Clone(m)
	if out == nil {
		out = map[string]V{}
	}
	out[key] = val
	return out
}

// setEnv replaces a variable in its place, or appends it.
func setEnv(env []string, key, val string) []string {
	out := slices.Clone(env)
	for i, e := range out {
		if strings.HasPrefix(e, key+"=") {
			out[i] = key + "=" + val
			return out
		}
	}
	return append(out, key+"="+val)
}

// joinDir is WORKDIR: a relative path is below the present one.
func joinDir(from, dir string) string {
	if path.IsAbs(dir) {
		return path.Clean(dir)
	}
	return path.Join("/", from, dir)
}
