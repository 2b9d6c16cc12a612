package expr_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgbake/imgbake-action/internal/expr"
	"github.com/imgbake/imgbake-action/internal/value"
)

// packerFunctions are the functions of Packer's HCL2 templates.
const packerFunctions = `abs abspath alltrue anytrue base64decode base64encode base64gzip basename
bcrypt can ceil chomp chunklist cidrhost cidrnetmask cidrsubnet cidrsubnets coalesce coalescelist compact concat
contains convert csvdecode dirname distinct element endswith env file filebase64 fileexists fileset flatten floor
format formatdate formatlist indent index join jsondecode jsonencode keys legacy_isotime legacy_strftime length log
lookup lower max md5 merge min parseint pathexpand pow range regex regex_replace regexall replace reverse
rfc3339_parse rsadecrypt setintersection setproduct setunion sha1 sha256 sha512 signum slice sort split startswith
strcontains strrev substr sum templatefile textdecodebase64 textencodebase64 timeadd timestamp title trim trimprefix
trimspace trimsuffix try unix_timestamp_parse upper urlencode uuidv4 uuidv5 values yamldecode yamlencode zipmap`

// calls has an expression for each function, and its value as JSON writes it;
// a value between slashes is a pattern.
var calls = map[string]string{
	`abs(-3)`:                                          `3`,
	`abspath("a/../b")`:                                `"/src/app/b"`,
	`abspath("/x/")`:                                   `"/x"`,
	`alltrue([true, "true"])`:                          `true`,
	`alltrue([true, false])`:                           `false`,
	`anytrue([false, true])`:                           `true`,
	`anytrue([])`:                                      `false`,
	`base64decode("aGk=")`:                             `"hi"`,
	`base64encode("hi")`:                               `"aGk="`,
	`base64gzip("hi")`:                                 `/"H4sI.*"/`,
	`basename("/a/b.txt")`:                             `"b.txt"`,
	`bcrypt("x", 4)`:                                   `/"\$2a\$04\$.*"/`,
	`can(jsondecode("{"))`:                             `false`,
	`ceil(1.2)`:                                        `2`,
	`chomp("a\n")`:                                     `"a"`,
	`chunklist([1, 2, 3], 2)`:                          `[[1,2],[3]]`,
	`cidrhost("10.0.0.0/8", 5)`:                        `"10.0.0.5"`,
	`cidrnetmask("10.0.0.0/8")`:                        `"255.0.0.0"`,
	`cidrsubnet("10.0.0.0/8", 8, 2)`:                   `"10.2.0.0/16"`,
	`cidrsubnets("10.0.0.0/8", 8)`:                     `["10.0.0.0/16"]`,
	`coalesce("", "b")`:                                `"b"`,
	`coalescelist([], ["b"])`:                          `["b"]`,
	`compact(["", "b"])`:                               `["b"]`,
	`concat(["a"], ["b"])`:                             `["a","b"]`,
	`contains(["a"], "a")`:                             `true`,
	`convert("5", number)`:                             `5`,
	`convert(["5"], list(number))`:                     `[5]`,
	`csvdecode("a,b\n1,2")`:                            `[{"a":"1","b":"2"}]`,
	`dirname("/a/b.txt")`:                              `"/a"`,
	`distinct(["a", "a"])`:                             `["a"]`,
	`element(["a", "b"], 3)`:                           `"b"`,
	`endswith("abc", "bc")`:                            `true`,
	`env("HOME")`:                                      `"/home/me"`,
	`env("NOPE")`:                                      `""`,
	`file("motd")`:                                     `"hello"`,
	`file("/src/app/motd")`:                            `"hello"`,
	`filebase64("raw")`:                                `"/w=="`,
	`fileexists("motd")`:                               `true`,
	`fileexists("conf")`:                               `false`,
	`fileset("conf", "**/*.conf")`:                     `["b.conf","sub/c.conf"]`,
	`fileset(".", "*.none")`:                           `[]`,
	`flatten([["a"], [["b"]]])`:                        `["a","b"]`,
	`floor(1.8)`:                                       `1`,
	`format("%s-%03d", "a", 7)`:                        `"a-007"`,
	`formatdate("YYYY", timestamp())`:                  `"2024"`,
	`formatlist("%s!", ["a", "b"])`:                    `["a!","b!"]`,
	`indent(2, "a\nb")`:                                `"a\n  b"`,
	`index(["a", "b"], "b")`:                           `1`,
	`join("-", ["a", "b"])`:                            `"a-b"`,
	`jsondecode("{\"a\": [1]}")`:                       `{"a":[1]}`,
	`jsonencode({a = [1]})`:                            `"{\"a\":[1]}"`,
	`keys({b = 1, a = 2})`:                             `["a","b"]`,
	`legacy_isotime()`:                                 `"2024-02-03T04:05:06Z"`,
	`legacy_isotime("20060102")`:                       `"20240203"`,
	`legacy_strftime("%Y-%m-%d %%")`:                   `"2024-02-03 %"`,
	`length("größe")`:                                  `5`,
	`length([1, 2])`:                                   `2`,
	`length({a = 1})`:                                  `1`,
	`log(8, 2)`:                                        `3`,
	`lookup({a = 1}, "a")`:                             `1`,
	`lookup({a = 1}, "b", 2)`:                          `2`,
	`lower("A")`:                                       `"a"`,
	`max(1, 3, 2)`:                                     `3`,
	`md5("")`:                                          `"d41d8cd98f00b204e9800998ecf8427e"`,
	`merge({a = 1}, {b = 2})`:                          `{"a":1,"b":2}`,
	`min(1, 3, 2)`:                                     `1`,
	`parseint("ff", 16)`:                               `255`,
	`pathexpand("~/x")`:                                `"/home/me/x"`,
	`pathexpand("~you/x")`:                             `"~you/x"`,
	`pow(2, 10)`:                                       `1024`,
	`range(3)`:                                         `[0,1,2]`,
	`regex("[0-9]+", "a12")`:                           `"12"`,
	`regex_replace("a1", "[0-9]", "x")`:                `"ax"`,
	`regexall("[0-9]", "a12")`:                         `["1","2"]`,
	`replace("a.b", ".", "-")`:                         `"a-b"`,
	`reverse([1, 2])`:                                  `[2,1]`,
	`rfc3339_parse("2024-02-03T04:05:06Z").month_name`: `"February"`,
	`rfc3339_parse("1970-01-02T00:00:00Z").unix`:       `86400`,
	`setintersection(["a", "b"], ["b"])`:               `["b"]`,
	`setproduct(["a"], ["b"])`:                         `[["a","b"]]`,
	`setunion(["a"], ["b"])`:                           `["a","b"]`,
	`sha1("")`:                                         `/"da39a3.*"/`,
	`sha256("")`:                                       `/"e3b0c4.*"/`,
	`sha512("")`:                                       `/"cf83e1.*"/`,
	`signum(-7)`:                                       `-1`,
	`slice(["a", "b", "c"], 1, 2)`:                     `["b"]`,
	`sort(["b", "a"])`:                                 `["a","b"]`,
	`split(",", "a,b")`:                                `["a","b"]`,
	`startswith("abc", "ab")`:                          `true`,
	`strcontains("abc", "b")`:                          `true`,
	`strrev("abc")`:                                    `"cba"`,
	`substr("abc", 1, 1)`:                              `"b"`,
	`sum([1, 2.5, "3"])`:                               `6.5`,
	`templatefile("conf/a.tmpl", {name = "x", n = 1})`: `"X:2"`,
	`templatefile("conf/a.tmpl", {name = "x", n = 2})`: `"X:3 big"`,
	`textencodebase64("hi", "UTF-16LE")`:               `"aABpAA=="`,
	`textdecodebase64("aABpAA==", "utf-16le")`:         `"hi"`,
	`timeadd("2024-02-03T04:05:06Z", "1h")`:            `"2024-02-03T05:05:06Z"`,
	`timestamp()`:                                      `"2024-02-03T04:05:06Z"`,
	`title("abc")`:                                     `"Abc"`,
	`trim("?a?", "?")`:                                 `"a"`,
	`trimprefix("ab", "a")`:                            `"b"`,
	`trimspace(" a ")`:                                 `"a"`,
	`trimsuffix("ab", "b")`:                            `"a"`,
	`try(jsondecode("{"), "no")`:                       `"no"`,
	`unix_timestamp_parse(86400).rfc3339`:              `"1970-01-02T00:00:00Z"`,
	`upper("a")`:                                       `"A"`,
	`urlencode("a b&c")`:                               `"a+b%26c"`,
	`uuidv4()`:                                         `/"[0-9a-f-]{36}"/`,
	`uuidv5("dns", "example.org")`:                     `/"[0-9a-f-]{36}"/`,
	`values({a = 1})`:                                  `[1]`,
	`yamldecode("a: [1]")`:                             `{"a":[1]}`,
	`yamlencode({a = 1})`:                              `"\"a\": 1\n"`,
	`zipmap(["a"], [1])`:                               `{"a":1}`,
}

func TestFunctions(t *testing.T) {
	for call, want := range calls {
		t.Run(call, func(t *testing.T) {
			got, err := evaluate("${" + call + "}")
			if err != nil {
				t.Fatal(err)
			}
			pattern := strings.HasPrefix(want, "/") && regexp.MustCompile("^"+strings.Trim(want, "/")+"$").MatchString(got)
			if got != want && !pattern {
				t.Errorf("%s = %s, want %s", call, got, want)
			}
		})
	}
}

func evaluate(src string) (string, error) {
	node, problems := expr.Parse(src, start, options())
	if err := problems.Err(); err != nil {
		return "", err
	}
	out, problems := value.Eval(node, scope())
	if err := problems.Err(); err != nil {
		return "", err
	}
	text, err := out.MarshalJSON()
	return string(text), err
}

// TestEveryFunctionIsCalled: the table is Packer's, and each has a call above.
func TestEveryFunctionIsCalled(t *testing.T) {
	called := map[string]bool{"rsadecrypt": true} // see TestFunctionProblems
	for call := range calls {
		name, _, _ := strings.Cut(call, "(")
		called[name] = true
	}
	names := []string{}
	for name := range called {
		names = append(names, name)
	}
	slices.Sort(names)
	if diff := cmp.Diff(strings.Fields(packerFunctions), names); diff != "" {
		t.Errorf("functions (-Packer's +called):\n%s", diff)
	}
}

func TestFunctionProblems(t *testing.T) {
	for call, want := range map[string]string{
		`rsadecrypt("x", "y")`:                  "failed to decode input",
		`index(["a"], "b")`:                     "the item is not in the list",
		`index("a", "b")`:                       "a list is required",
		`lookup({a = 1}, "b")`:                  `there is no key "b", and no default`,
		`lookup([], "b")`:                       "a mapping is required",
		`length(5)`:                             "a string, list or mapping is required",
		`sum([])`:                               "a list of one or more numbers is required",
		`sum(["x"])`:                            "a list of numbers is required",
		`file("none")`:                          `there is no file "none"`,
		`file("raw")`:                           `"raw" is not UTF-8 text: use filebase64`,
		`templatefile("bad.tmpl", {})`:          "bad.tmpl:2:5: there is no variable named \"nope\"",
		`templatefile("self.tmpl", {})`:         `unknown function "templatefile"`,
		`templatefile("motd", 5)`:               "a mapping of names to values is required",
		`fileset(".", "[")`:                     `"[" is no pattern`,
		`legacy_strftime("%Q")`:                 `unknown conversion "%Q"`,
		`legacy_isotime("a", "b")`:              "there is at most one format",
		`rfc3339_parse("x")`:                    "cannot parse",
		`unix_timestamp_parse(1.5)`:             "a whole number of seconds is required",
		`textencodebase64("x", "EBCDIC")`:       `unknown encoding "EBCDIC"`,
		`textencodebase64("☃", "windows-1252")`: "a character is not part of windows-1252",
		`textdecodebase64("?", "utf-8")`:        "the string is not base64",
	} {
		got, err := evaluate("${" + call + "}")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s = %s, %v; want an error with %q", call, got, err, want)
		}
	}
}
