package expr

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
	textencoding "golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"
)

// boolsFunc makes a function of a list of bools, told whether all and whether
// one of them is true.
func boolsFunc(f func(all, one bool) bool) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "list", Type: cty.List(cty.Bool)}},
		Type:   function.StaticReturnType(cty.Bool),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			all, one := true, false
			for it := args[0].ElementIterator(); it.Next(); {
				_, v := it.Element()
				isTrue := !v.IsNull() && v.True()
				all, one = all && isTrue, one || isTrue
			}
			return cty.BoolVal(f(all, one)), nil
		},
	})
}

// anyParam is a parameter of any type that its function checks itself.
func anyParam(name string) function.Parameter {
	return function.Parameter{Name: name, Type: cty.DynamicPseudoType}
}

// lengthFunc counts the items of a collection or the characters of a string.
func lengthFunc() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{anyParam("value")},
		Type: func(args []cty.Value) (cty.Type, error) {
			t := args[0].Type()
			if t == cty.String || t.IsTupleType() || t.IsObjectType() || t.IsCollectionType() {
				return cty.Number, nil
			}
			return cty.NilType, function.NewArgErrorf(0, "a string, list or mapping is required")
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			if args[0].Type() == cty.String {
				return stdlib.Strlen(args[0])
			}
			return cty.NumberIntVal(int64(args[0].LengthInt())), nil
		},
	})
}

// indexFunc finds the first item of a list that equals a value.
func indexFunc() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{anyParam("list"), anyParam("value")},
		Type:   function.StaticReturnType(cty.Number),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			if t := args[0].Type(); !t.IsTupleType() && !t.IsListType() {
				return cty.NilVal, function.NewArgErrorf(0, "a list is required")
			}
			for it := args[0].ElementIterator(); it.Next(); {
				i, v := it.Element()
				if equal, err := stdlib.Equal(v, args[1]); err == nil && equal.IsKnown() && equal.True() {
					return i, nil
				}
			}
			return cty.NilVal, errors.New("the item is not in the list")
		},
	})
}

// lookupFunc reads a key of a mapping, with or without a default.
func lookupFunc() function.Function {
	find := func(args []cty.Value) (cty.Value, error) {
		mapping, key := args[0], args[1].AsString()
		t := mapping.Type()
		switch {
		case t.IsObjectType() && t.HasAttribute(key):
			return mapping.GetAttr(key), nil
		case t.IsMapType() && mapping.HasIndex(args[1]).True():
			return mapping.Index(args[1]), nil
		case !t.IsObjectType() && !t.IsMapType():
			return cty.NilVal, function.NewArgErrorf(0, "a mapping is required")
		case len(args) == 3:
			return args[2], nil
		case len(args) > 3:
			return cty.NilVal, errors.New("there is at most one default")
		}
		return cty.NilVal, fmt.Errorf("there is no key %q, and no default", key)
	}
	return function.New(&function.Spec{
		Params:   []function.Parameter{anyParam("map"), {Name: "key", Type: cty.String}},
		VarParam: &function.Parameter{Name: "default", Type: cty.DynamicPseudoType, AllowNull: true},
		Type: func(args []cty.Value) (cty.Type, error) {
			for _, arg := range args[:2] {
				if !arg.IsKnown() {
					return cty.DynamicPseudoType, nil
				}
			}
			v, err := find(args)
			if err != nil {
				return cty.NilType, err
			}
			return v.Type(), nil
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) { return find(args) },
	})
}

// sumFunc adds the numbers of a list.
func sumFunc() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{anyParam("list")},
		Type:   function.StaticReturnType(cty.Number),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			if !args[0].CanIterateElements() || args[0].LengthInt() == 0 {
				return cty.NilVal, function.NewArgErrorf(0, "a list of one or more numbers is required")
			}
			total := cty.Zero
			for it := args[0].ElementIterator(); it.Next(); {
				_, v := it.Element()
				number, err := convert.Convert(v, cty.Number)
				if err != nil || number.IsNull() {
					return cty.NilVal, function.NewArgErrorf(0, "a list of numbers is required")
				}
				total = total.Add(number)
			}
			return total, nil
		},
	})
}

func base64gzip(s string) (string, error) {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write([]byte(s)); err != nil {
		return "", err
	}
	if err := z.Close(); err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(out.Bytes()), nil
}

// charset finds a character encoding by its IANA name.
func charset(name string) (textencoding.Encoding, error) {
	switch strings.ToLower(name) {
	case "utf-8":
		return unicode.UTF8, nil
	case "utf-16":
		return unicode.UTF16(unicode.BigEndian, unicode.UseBOM), nil
	case "utf-16le":
		return unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM), nil
	case "utf-16be":
		return unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM), nil
	case "iso-8859-1", "us-ascii":
		return charmap.ISO8859_1, nil
	case "windows-1252", "cp1252":
		return charmap.Windows1252, nil
	}
	return nil, fmt.Errorf("unknown encoding %q: known are UTF-8, UTF-16, UTF-16LE, UTF-16BE, ISO-8859-1, windows-1252", name)
}

func encodeText(s, name string) (string, error) {
	c, err := charset(name)
	if err != nil {
		return "", err
	}
	raw, err := c.NewEncoder().Bytes([]byte(s))
	if err != nil {
		return "", fmt.Errorf("a character is not part of %s", name)
	}
	return base64.StdEncoding.EncodeToString(raw), nil
}

func decodeText(s, name string) (string, error) {
	c, err := charset(name)
	if err != nil {
		return "", err
	}
	raw, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return "", errors.New("the string is not base64")
	}
	out, err := c.NewDecoder().Bytes(raw)
	if err != nil {
		return "", fmt.Errorf("the data is not %s", name)
	}
	return string(out), nil
}
