package expr

import (
	"fmt"
	"strings"
	"time"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/gocty"
)

// timeFunctions are those that read the clock.
func timeFunctions(now func() time.Time) map[string]function.Function {
	return map[string]function.Function{
		"timestamp": function.New(&function.Spec{
			Type: function.StaticReturnType(cty.String),
			Impl: func([]cty.Value, cty.Type) (cty.Value, error) {
				return cty.StringVal(now().UTC().Format(time.RFC3339)), nil
			},
		}),
		"legacy_isotime": function.New(&function.Spec{
			VarParam: &function.Parameter{Name: "format", Type: cty.String},
			Type:     function.StaticReturnType(cty.String),
			Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
				layout := time.RFC3339
				switch {
				case len(args) > 1:
					return cty.NilVal, fmt.Errorf("there is at most one format")
				case len(args) == 1:
					layout = args[0].AsString()
				}
				return cty.StringVal(now().UTC().Format(layout)), nil
			},
		}),
		"legacy_strftime": stringFunc(func(format string) (string, error) { return strftime(format, now().UTC()) }),
	}
}

// conversions are the strftime conversions as layouts of package time.
var conversions = map[byte]string{
	'A': "Monday", 'a': "Mon", 'B': "January", 'b': "Jan", 'C': "", 'c': "Mon Jan _2 15:04:05 2006",
	'D': "01/02/06", 'd': "02", 'e': "_2", 'F': "2006-01-02", 'H': "15", 'h': "Jan", 'I': "03", 'j': "002",
	'M': "04", 'm': "01", 'p': "PM", 'R': "15:04", 'r': "03:04:05 PM", 'S': "05", 'T': "15:04:05",
	'v': "_2-Jan-2006", 'X': "15:04:05", 'x': "01/02/06", 'Y': "2006", 'y': "06", 'Z': "MST", 'z': "-0700",
}

func strftime(format string, t time.Time) (string, error) {
	var out strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			out.WriteByte(format[i])
			continue
		}
		i++
		layout, ok := conversions[format[i]]
		switch {
		case format[i] == '%':
			out.WriteByte('%')
		case format[i] == 'C':
			fmt.Fprintf(&out, "%02d", t.Year()/100)
		case !ok:
			return "", fmt.Errorf("unknown conversion %q", format[i-1:i+1])
		default:
			out.WriteString(t.Format(layout))
		}
	}
	return out.String(), nil
}

// timeFields are the parts of a moment that rfc3339_parse and
// unix_timestamp_parse give.
type timeFields struct {
	Year        int    `cty:"year"`
	YearDay     int    `cty:"year_day"`
	Month       int    `cty:"month"`
	MonthName   string `cty:"month_name"`
	Day         int    `cty:"day"`
	Weekday     int    `cty:"weekday"`
	WeekdayName string `cty:"weekday_name"`
	Hour        int    `cty:"hour"`
	Minute      int    `cty:"minute"`
	Second      int    `cty:"second"`
	ISOYear     int    `cty:"iso_year"`
	ISOWeek     int    `cty:"iso_week"`
	Unix        int64  `cty:"unix"`
	RFC3339     string `cty:"rfc3339"`
}

func timeParts(param cty.Type, parse func(cty.Value) (time.Time, error)) function.Function {
	result, err := gocty.ImpliedType(timeFields{})
	if err != nil {
		panic(err) // the struct above is at fault
	}
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "time", Type: param}},
		Type:   function.StaticReturnType(result),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			t, err := parse(args[0])
			if err != nil {
				return cty.NilVal, function.NewArgError(0, err)
			}
			isoYear, isoWeek := t.ISOWeek()
			return gocty.ToCtyValue(timeFields{
				Year: t.Year(), YearDay: t.YearDay(), Month: int(t.Month()), MonthName: t.Month().String(),
				Day: t.Day(), Weekday: int(t.Weekday()), WeekdayName: t.Weekday().String(),
				Hour: t.Hour(), Minute: t.Minute(), Second: t.Second(),
				ISOYear: isoYear, ISOWeek: isoWeek, Unix: t.Unix(), RFC3339: t.Format(time.RFC3339),
			}, result)
		},
	})
}

func parseRFC3339(v cty.Value) (time.Time, error) { return time.Parse(time.RFC3339, v.AsString()) }

func parseUnix(v cty.Value) (time.Time, error) {
	seconds, accuracy := v.AsBigFloat().Int64()
	if accuracy != 0 {
		return time.Time{}, fmt.Errorf("a whole number of seconds is required")
	}
	return time.Unix(seconds, 0).UTC(), nil
}
