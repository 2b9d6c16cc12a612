package expr

import (
	"maps"
	"path"
	"path/filepath"
	"strings"

	"github.com/hashicorp/go-cty-funcs/cidr"
	"github.com/hashicorp/go-cty-funcs/collection"
	"github.com/hashicorp/go-cty-funcs/crypto"
	"github.com/hashicorp/go-cty-funcs/encoding"
	"github.com/hashicorp/go-cty-funcs/uuid"
	"github.com/hashicorp/hcl/v2/ext/tryfunc"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	ctyyaml "github.com/zclconf/go-cty-yaml"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// lookups are Packer's functions that ask a service for a secret.
var lookups = []string{"vault", "consul_key", "aws_secretsmanager", "aws_secretsmanager_raw"}

// table is every function the options allow, and why the others are refused.
func table(o Options) (functions map[string]function.Function, refused map[string]string) {
	functions = pure()
	refused = map[string]string{}
	group := func(allowed bool, why string, fs map[string]function.Function) {
		if allowed {
			maps.Copy(functions, fs)
			return
		}
		for name := range fs {
			refused[name] = why
		}
	}
	group(o.Env != nil, "env works in the variables section only: declare a variable with env: NAME and use that",
		map[string]function.Function{"env": envFunc(o.Env)})
	group(o.Now != nil, "the time is not known here", timeFunctions(o.Now))
	group(o.Dir != "", "no folder is known here", map[string]function.Function{"abspath": stringFunc(func(p string) (string, error) {
		if filepath.IsAbs(p) {
			return filepath.Clean(p), nil
		}
		return filepath.Join(o.Dir, p), nil
	})})
	group(o.Home != "", "no home folder is known here", map[string]function.Function{"pathexpand": stringFunc(func(p string) (string, error) {
		if rest, ok := strings.CutPrefix(p, "~"); ok && (rest == "" || rest[0] == '/') {
			return path.Join(o.Home, rest), nil
		}
		return p, nil
	})})
	group(o.Files != nil, "no files can be read here", fileFunctions(folder{o.Files, o.Dir}, functions))
	for _, name := range lookups {
		refused[name] = "pass the secret in: declare a variable with sensitive: true and env: NAME"
	}
	return functions, refused
}

// pure are the functions that need nothing but their arguments.
func pure() map[string]function.Function {
	return map[string]function.Function{
		"abs":              stdlib.AbsoluteFunc,
		"alltrue":          boolsFunc(func(all, _ bool) bool { return all }),
		"anytrue":          boolsFunc(func(_, one bool) bool { return one }),
		"base64decode":     encoding.Base64DecodeFunc,
		"base64encode":     encoding.Base64EncodeFunc,
		"base64gzip":       stringFunc(base64gzip),
		"basename":         stringFunc(func(p string) (string, error) { return path.Base(p), nil }),
		"bcrypt":           crypto.BcryptFunc,
		"can":              tryfunc.CanFunc,
		"ceil":             stdlib.CeilFunc,
		"chomp":            stdlib.ChompFunc,
		"chunklist":        stdlib.ChunklistFunc,
		"cidrhost":         cidr.HostFunc,
		"cidrnetmask":      cidr.NetmaskFunc,
		"cidrsubnet":       cidr.SubnetFunc,
		"cidrsubnets":      cidr.SubnetsFunc,
		"coalesce":         collection.CoalesceFunc,
		"coalescelist":     stdlib.CoalesceListFunc,
		"compact":          stdlib.CompactFunc,
		"concat":           stdlib.ConcatFunc,
		"contains":         stdlib.ContainsFunc,
		"convert":          typeexpr.ConvertFunc,
		"csvdecode":        stdlib.CSVDecodeFunc,
		"dirname":          stringFunc(func(p string) (string, error) { return path.Dir(p), nil }),
		"distinct":         stdlib.DistinctFunc,
		"element":          stdlib.ElementFunc,
		"endswith":         predicate(strings.HasSuffix),
		"flatten":          stdlib.FlattenFunc,
		"floor":            stdlib.FloorFunc,
		"format":           stdlib.FormatFunc,
		"formatdate":       stdlib.FormatDateFunc,
		"formatlist":       stdlib.FormatListFunc,
		"indent":           stdlib.IndentFunc,
		"index":            indexFunc(),
		"join":             stdlib.JoinFunc,
		"jsondecode":       stdlib.JSONDecodeFunc,
		"jsonencode":       stdlib.JSONEncodeFunc,
		"keys":             stdlib.KeysFunc,
		"length":           lengthFunc(),
		"log":              stdlib.LogFunc,
		"lookup":           lookupFunc(),
		"lower":            stdlib.LowerFunc,
		"max":              stdlib.MaxFunc,
		"md5":              crypto.Md5Func,
		"merge":            stdlib.MergeFunc,
		"min":              stdlib.MinFunc,
		"parseint":         stdlib.ParseIntFunc,
		"pow":              stdlib.PowFunc,
		"range":            stdlib.RangeFunc,
		"regex":            stdlib.RegexFunc,
		"regex_replace":    stdlib.RegexReplaceFunc,
		"regexall":         stdlib.RegexAllFunc,
		"replace":          stdlib.ReplaceFunc,
		"reverse":          stdlib.ReverseListFunc,
		"rsadecrypt":       crypto.RsaDecryptFunc,
		"setintersection":  stdlib.SetIntersectionFunc,
		"setproduct":       stdlib.SetProductFunc,
		"setunion":         stdlib.SetUnionFunc,
		"sha1":             crypto.Sha1Func,
		"sha256":           crypto.Sha256Func,
		"sha512":           crypto.Sha512Func,
		"signum":           stdlib.SignumFunc,
		"slice":            stdlib.SliceFunc,
		"sort":             stdlib.SortFunc,
		"split":            stdlib.SplitFunc,
		"startswith":       predicate(strings.HasPrefix),
		"strcontains":      predicate(strings.Contains),
		"strrev":           stdlib.ReverseFunc,
		"substr":           stdlib.SubstrFunc,
		"sum":              sumFunc(),
		"textdecodebase64": textFunc(decodeText),
		"textencodebase64": textFunc(encodeText),
		"timeadd":          stdlib.TimeAddFunc,
		"title":            stdlib.TitleFunc,
		"trim":             stdlib.TrimFunc,
		"trimprefix":       stdlib.TrimPrefixFunc,
		"trimspace":        stdlib.TrimSpaceFunc,
		"trimsuffix":       stdlib.TrimSuffixFunc,
		"try":              tryfunc.TryFunc,
		"upper":            stdlib.UpperFunc,
		"urlencode":        encoding.URLEncodeFunc,
		"uuidv4":           uuid.V4Func,
		"uuidv5":           uuid.V5Func,
		"values":           stdlib.ValuesFunc,
		"yamldecode":       ctyyaml.YAMLDecodeFunc,
		"yamlencode":       ctyyaml.YAMLEncodeFunc,
		"zipmap":           stdlib.ZipmapFunc,

		"rfc3339_parse":        timeParts(cty.String, parseRFC3339),
		"unix_timestamp_parse": timeParts(cty.Number, parseUnix),
	}
}

func envFunc(lookup func(string) (string, bool)) function.Function {
	return stringFunc(func(name string) (string, error) {
		text, _ := lookup(name) // as in Packer, unset is empty
		return text, nil
	})
}

// stringFunc makes a function of a string that gives a string.
func stringFunc(f func(string) (string, error)) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "str", Type: cty.String}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			out, err := f(args[0].AsString())
			if err != nil {
				return cty.NilVal, function.NewArgError(0, err)
			}
			return cty.StringVal(out), nil
		},
	})
}

// textFunc makes a function of a string and a word that tells how to treat it.
func textFunc(f func(s, how string) (string, error)) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "str", Type: cty.String}, {Name: "encoding", Type: cty.String}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			out, err := f(args[0].AsString(), args[1].AsString())
			if err != nil {
				return cty.NilVal, err
			}
			return cty.StringVal(out), nil
		},
	})
}

// predicate makes a yes-or-no function of two strings.
func predicate(f func(s, part string) bool) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "str", Type: cty.String}, {Name: "part", Type: cty.String}},
		Type:   function.StaticReturnType(cty.Bool),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			return cty.BoolVal(f(args[0].AsString(), args[1].AsString())), nil
		},
	})
}
