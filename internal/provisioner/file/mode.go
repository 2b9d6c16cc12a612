package file

import (
	"strconv"

	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/value"
)

// Mode is a file's permissions. The zero value is not given.
type Mode struct {
	Bits  int64
	Given bool
}

// UnmarshalValue reads octal digits, as a number or a string.
func (m *Mode) UnmarshalValue(n value.Node) diag.List {
	var problems diag.List
	text, ok := value.Text(n)
	bits, err := strconv.ParseInt(text, 8, 32)
	if !ok || err != nil || bits < 0 || bits > 0o7777 {
		problems.Add(n.Pos, `write octal digits, such as "0644"`, "expected permissions, found %s", value.Describe(n))
		return problems
	}
	*m = Mode{bits, true}
	return nil
}

// ValueType names the type in the reference.
func (Mode) ValueType() string { return "mode" }

// or returns the mode, or another where none was given.
func (m Mode) or(other int64) int64 {
	if m.Given {
		return m.Bits
	}
	return other
}
