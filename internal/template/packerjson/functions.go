package packerjson

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/imgbake/imgbake-action/internal/diag"
)

// place is where in the file a string stands. It decides which functions may
// be used there.
type place int

const (
	inVariable place = iota // a default in "variables"
	inName                  // the name of a builder
	inBuilder
	inStep // a provisioner or post-processor
)

// fact is a template function that reads the scope. Its arguments are texts
// in quotes, so that what an expression needs is known before it is evaluated.
type fact struct {
	arg       string // what the argument is; empty: none is taken
	optional  bool   // the argument may be left out
	allowed   []place
	elsewhere string // why not, where it is not allowed
	reads     string // the name in the scope; the argument follows a dot at its end
	value     func(call) (string, error)
}

// runTime is the name of the run's time in the scope, as RFC 3339.
const runTime = "run.time"

// call is one evaluation of a fact.
type call struct {
	read string // what the scope has
	arg  string
	at   diag.Pos // of the string the call is in
	nth  int      // of the calls in that string
}

var everywhere = []place{inVariable, inName, inBuilder, inStep}

var facts = map[string]fact{
	"user":           {arg: "name of a variable", allowed: everywhere, reads: "var.", value: itself},
	"env":            {arg: "name of an environment variable", allowed: []place{inVariable}, elsewhere: `it is for "variables" only: declare a variable and use it by {{user}}`, reads: "env.", value: itself},
	"build":          {arg: "name of a fact of the build", allowed: []place{inStep}, elsewhere: "it is for provisioners and post-processors only", reads: "build.", value: itself},
	"build_name":     {allowed: []place{inBuilder, inStep}, elsewhere: "which build it is is not known here", reads: "build.name", value: itself},
	"build_type":     {allowed: []place{inBuilder, inStep}, elsewhere: "which build it is is not known here", reads: "build.type", value: itself},
	"isotime":        {arg: "Go time layout", optional: true, allowed: everywhere, reads: runTime, value: isotime},
	"strftime":       {arg: "time format", allowed: everywhere, reads: runTime, value: strftime},
	"timestamp":      {allowed: everywhere, reads: runTime, value: timestamp},
	"uuid":           {allowed: everywhere, reads: "run.uuid", value: uuid},
	"pwd":            {allowed: everywhere, reads: "path.cwd", value: itself},
	"template_dir":   {allowed: everywhere, reads: "path.root", value: itself},
	"packer_version": {allowed: everywhere, value: func(call) (string, error) { return PackerVersion, nil }},
}

// need is the name in the scope that a call reads, empty for none.
func (f fact) need(arg string) string {
	if strings.HasSuffix(f.reads, ".") {
		return f.reads + arg
	}
	return f.reads
}

// refused are the functions of Packer that do not work here.
var refused = map[string]string{
	"vault":                  "pass the secret as a variable and list it in sensitive-variables",
	"consul_key":             "pass the value as a variable",
	"aws_secretsmanager":     "pass the secret as a variable and list it in sensitive-variables",
	"aws_secretsmanager_raw": "pass the secret as a variable and list it in sensitive-variables",
	"sed":                    "Packer has dropped it too: use replace or replace_all",
}

// pure are the functions of Packer that compute something of their arguments.
var pure = template.FuncMap{
	"upper":       strings.ToUpper,
	"lower":       strings.ToLower,
	"replace":     func(old, new string, n int, s string) string { return strings.Replace(s, old, new, n) },
	"replace_all": func(old, new, s string) string { return strings.ReplaceAll(s, old, new) },
	"split":       split,
}

// builtins are the functions of text/template.
var builtins = []string{
	"and", "call", "eq", "ge", "gt", "html", "index", "js", "le", "len", "lt",
	"ne", "not", "or", "print", "printf", "println", "slice", "urlquery",
}

// functionNames lists what may be called.
func functionNames() []string {
	names := slices.Collect(maps.Keys(facts))
	names = slices.AppendSeq(names, maps.Keys(pure))
	return append(names, builtins...)
}

// unknownFunction is the hint for a function that does not exist.
func unknownFunction(name string) string {
	hint := diag.Suggest(name, functionNames())
	if strings.HasPrefix(hint, "known:") {
		return "to keep the braces as they are, write {{`{{`}}"
	}
	return hint
}

func itself(c call) (string, error) { return c.read, nil }

func split(s, separator string, i int) (string, error) {
	parts := strings.Split(s, separator)
	if i < 0 || i >= len(parts) {
		return "", fmt.Errorf("no part %d: the text has %d when split at %q", i, len(parts), separator)
	}
	return parts[i], nil
}

func isotime(c call) (string, error) {
	layout := c.arg
	if layout == "" {
		layout = time.RFC3339
	}
	t, err := parseTime(c.read)
	return t.Format(layout), err
}

func timestamp(c call) (string, error) {
	t, err := parseTime(c.read)
	return strconv.FormatInt(t.Unix(), 10), err
}

func parseTime(now string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, now)
	return t.UTC(), err
}

// strftimeLayouts maps the conversions of strftime to Go time layouts.
var strftimeLayouts = map[byte]string{
	'A': "Monday", 'a': "Mon", 'B': "January", 'b': "Jan", 'h': "Jan",
	'c': "Mon Jan _2 15:04:05 2006", 'D': "01/02/06", 'd': "02", 'e': "_2",
	'F': "2006-01-02", 'H': "15", 'I': "03", 'j': "002", 'M': "04", 'm': "01",
	'p': "PM", 'R': "15:04", 'r': "03:04:05 PM", 'S': "05", 'T': "15:04:05",
	'v': "_2-Jan-2006", 'X': "15:04:05", 'x': "01/02/06", 'Y': "2006", 'y': "06",
	'Z': "MST", 'z': "-0700",
}

func strftime(c call) (string, error) {
	format := c.arg
	t, err := parseTime(c.read)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' {
			out.WriteByte(format[i])
			continue
		}
		i++
		if i == len(format) {
			return "", fmt.Errorf("lone %% at the end of the time format %q", format)
		}
		part, ok := strftimePart(t, format[i])
		if !ok {
			return "", fmt.Errorf("no conversion %%%c in the time format %q", format[i], format)
		}
		out.WriteString(part)
	}
	return out.String(), nil
}

func strftimePart(t time.Time, c byte) (string, bool) {
	year, week := t.ISOWeek()
	sunday, monday := int(t.Weekday()), (int(t.Weekday())+6)%7
	switch c {
	case '%':
		return "%", true
	case 'n':
		return "\n", true
	case 't':
		return "\t", true
	case 'C':
		return fmt.Sprintf("%02d", t.Year()/100), true
	case 'G':
		return fmt.Sprintf("%d", year), true
	case 'V':
		return fmt.Sprintf("%02d", week), true
	case 'k':
		return fmt.Sprintf("%2d", t.Hour()), true
	case 'l':
		return fmt.Sprintf("%2d", (t.Hour()+11)%12+1), true
	case 's':
		return strconv.FormatInt(t.Unix(), 10), true
	case 'U':
		return fmt.Sprintf("%02d", (t.YearDay()+6-sunday)/7), true
	case 'W':
		return fmt.Sprintf("%02d", (t.YearDay()+6-monday)/7), true
	case 'w':
		return strconv.Itoa(sunday), true
	case 'u':
		return strconv.Itoa(monday + 1), true
	}
	layout, ok := strftimeLayouts[c]
	return t.Format(layout), ok
}

// uuid derives a random (version 4) UUID from the run's: another one for each
// call in the file, the same one each time that call is evaluated.
func uuid(c call) (string, error) {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %d", c.read, c.at, c.nth))
	sum[6] = sum[6]&0x0f | 0x40
	sum[8] = sum[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[0:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16]), nil
}
