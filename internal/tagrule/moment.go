package tagrule

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// token finds the parts of a date format as Moment.js knows them, longest
// first; text in brackets stands for itself.
var token = regexp.MustCompile(`\[[^\[\]]*\]|\\.|[Hh]mm(?:ss)?|Mo|M{1,4}|Do|DDDo|D{1,4}|do|d{1,4}|wo|ww?|Wo|WW?|Qo?|N{1,5}|` +
	`YYYYYY|YYYYY|YYYY|YY|Y|y{2,4}|yo?|gg(?:ggg?)?|GG(?:GGG?)?|e|E|a|A|hh?|HH?|kk?|mm?|ss?|S{1,9}|x|X|zz?|ZZ?|LTS|LT|L{1,4}|l{1,4}|(?s:.)`)

// shorthands are formats made of others, in English.
var shorthands = map[string]string{
	"LT": "h:mm A", "LTS": "h:mm:ss A",
	"L": "MM/DD/YYYY", "LL": "MMMM D, YYYY", "LLL": "MMMM D, YYYY h:mm A", "LLLL": "dddd, MMMM D, YYYY h:mm A",
	"l": "M/D/YYYY", "ll": "MMM D, YYYY", "lll": "MMM D, YYYY h:mm A", "llll": "ddd, MMM D, YYYY h:mm A",
	"Hmm": "H[]mm", "Hmmss": "H[]mm[]ss", "hmm": "h[]mm", "hmmss": "h[]mm[]ss",
}

// layouts are the tokens that Go's time package formats alike.
var layouts = map[string]string{
	"MMMM": "January", "MMM": "Jan", "MM": "01", "M": "1", "DD": "02", "D": "2", "DDDD": "002",
	"dddd": "Monday", "ddd": "Mon", "YY": "06", "HH": "15", "hh": "03", "h": "3", "mm": "04", "m": "4", "ss": "05", "s": "5",
	"A": "PM", "a": "pm", "Z": "-07:00", "ZZ": "-0700", "z": "MST", "zz": "MST",
}

// numbers are the tokens that are numbers, with their least width.
var numbers = map[string]struct {
	width int
	of    func(time.Time) int
}{
	"YYYY": {4, time.Time.Year}, "Y": {4, time.Time.Year}, "YYYYY": {5, time.Time.Year},
	"y": {1, time.Time.Year}, "yy": {1, time.Time.Year}, "yyy": {1, time.Time.Year}, "yyyy": {1, time.Time.Year},
	"DDD": {1, time.Time.YearDay}, "d": {1, weekday}, "e": {1, weekday}, "E": {1, isoWeekday},
	"H": {1, time.Time.Hour}, "k": {1, hourFrom1}, "kk": {2, hourFrom1}, "Q": {1, quarter},
	"w": {1, week}, "ww": {2, week}, "W": {1, isoWeek}, "WW": {2, isoWeek},
	"gg": {2, weekYear2}, "gggg": {4, weekYear}, "ggggg": {5, weekYear},
	"GG": {2, isoYear2}, "GGGG": {4, isoYear}, "GGGGG": {5, isoYear},
}

// ordinals are the numbers written as 1st, 2nd, 3rd.
var ordinals = map[string]func(time.Time) int{
	"Mo": func(t time.Time) int { return int(t.Month()) }, "Do": time.Time.Day, "DDDo": time.Time.YearDay,
	"do": weekday, "wo": week, "Wo": isoWeek, "Qo": quarter, "yo": time.Time.Year,
}

// formatTime renders a time in a format of Moment.js, in English.
func formatTime(t time.Time, format string) string {
	return token.ReplaceAllStringFunc(format, func(tok string) string { return renderToken(t, tok) })
}

func renderToken(t time.Time, tok string) string {
	if short, ok := shorthands[tok]; ok {
		return formatTime(t, short)
	}
	if layout, ok := layouts[tok]; ok {
		return t.Format(layout)
	}
	if n, ok := numbers[tok]; ok {
		return fmt.Sprintf("%0*d", n.width, n.of(t))
	}
	if of, ok := ordinals[tok]; ok {
		return ordinal(of(t))
	}
	switch {
	case tok == "YYYYYY":
		return fmt.Sprintf("%+07d", t.Year())
	case tok == "dd":
		return t.Format("Mon")[:2]
	case tok == "X":
		return strconv.FormatInt(t.Unix(), 10)
	case tok == "x":
		return strconv.FormatInt(t.UnixMilli(), 10)
	case tok == "NNNN":
		return "Anno Domini"
	case tok[0] == 'N':
		return "AD"
	case tok[0] == 'S':
		return fmt.Sprintf("%09d", t.Nanosecond())[:len(tok)]
	case tok[0] == '[' && len(tok) > 1:
		return strings.Trim(tok, "[]")
	case tok[0] == '\\' && len(tok) > 1:
		return tok[1:]
	}
	return tok
}

func ordinal(n int) string {
	suffix := "th"
	if n/10%10 != 1 {
		switch n % 10 {
		case 1:
			suffix = "st"
		case 2:
			suffix = "nd"
		case 3:
			suffix = "rd"
		}
	}
	return strconv.Itoa(n) + suffix
}

func weekday(t time.Time) int    { return int(t.Weekday()) }
func isoWeekday(t time.Time) int { return (int(t.Weekday())+6)%7 + 1 }
func quarter(t time.Time) int    { return (int(t.Month())-1)/3 + 1 }
func isoWeek(t time.Time) int    { _, w := t.ISOWeek(); return w }
func isoYear(t time.Time) int    { y, _ := t.ISOWeek(); return y }
func isoYear2(t time.Time) int   { return isoYear(t) % 100 }
func weekYear2(t time.Time) int  { return weekYear(t) % 100 }

// hourFrom1 is the hour from 1 to 24.
func hourFrom1(t time.Time) int {
	if t.Hour() == 0 {
		return 24
	}
	return t.Hour()
}

// weekYear is the year of the week as counted in the United States: weeks
// begin on Sunday, and the first one is that of January 1st.
func weekYear(t time.Time) int { return t.AddDate(0, 0, 6-weekday(t)).Year() }

func week(t time.Time) int {
	saturday := t.AddDate(0, 0, 6-weekday(t))
	return (saturday.YearDay()-1)/7 + 1
}
