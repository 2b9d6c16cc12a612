// Package secret keeps sensitive values from being shown by accident: Value
// prints as ***, and Redactor finds known secrets, and the forms they turn
// into, in what is about to be written.
package secret

// Mask is what stands in place of a secret.
const Mask = "***"

// Value is a sensitive string. Every way of printing or encoding it gives the
// mask; only Reveal gives the string. The zero Value is the empty string.
type Value struct{ s string }

// New makes a Value of a string.
func New(s string) Value { return Value{s} }

// Reveal returns the string itself. Use it at the last moment.
func (v Value) Reveal() string { return v.s }

// IsZero reports whether the value is empty.
func (v Value) IsZero() bool { return v.s == "" }

// String returns the mask, or nothing for an empty value.
func (v Value) String() string {
	if v.s == "" {
		return ""
	}
	return Mask
}

// GoString returns the mask, so that %#v is safe too.
func (v Value) GoString() string { return "secret.Value(" + v.String() + ")" }

// MarshalText returns the mask, so that JSON and YAML are safe too.
func (v Value) MarshalText() ([]byte, error) { return []byte(v.String()), nil }
