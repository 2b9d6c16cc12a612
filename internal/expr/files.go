package expr

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/bmatcuk/doublestar/v4"
	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"

	"github.com/imgbake/imgbake-action/internal/diag"
)

// maxFile bounds what an expression reads.
const maxFile = 16 << 20

// folder is the fence of the file functions.
type folder struct {
	fsys fs.FS
	dir  string
}

// resolve makes a template's path one in the folder.
func (f folder) resolve(name string) (string, error) {
	clean := path.Clean(name)
	if path.IsAbs(clean) {
		rest, below := strings.CutPrefix(clean+"/", strings.TrimSuffix(f.dir, "/")+"/")
		if f.dir == "" || !below {
			return "", fmt.Errorf("%q is outside of the template's folder", name)
		}
		clean = path.Clean("./" + rest)
	}
	if !fs.ValidPath(clean) {
		return "", fmt.Errorf("%q is outside of the template's folder", name)
	}
	if slices.Contains(strings.Split(strings.ToLower(clean), "/"), ".git") {
		return "", fmt.Errorf("%q is inside .git, which may hold credentials", name)
	}
	return clean, nil
}

func (f folder) read(name string) ([]byte, error) {
	clean, err := f.resolve(name)
	if err != nil {
		return nil, err
	}
	file, err := f.fsys.Open(clean)
	if err != nil {
		return nil, plainPathError(name, err)
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%q is not a regular file", name)
	}
	data, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, plainPathError(name, err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%q is larger than %d MiB", name, maxFile>>20)
	}
	return data, nil
}

func (f folder) text(name string) (string, error) {
	data, err := f.read(name)
	if err == nil && !utf8.Valid(data) {
		err = fmt.Errorf("%q is not UTF-8 text: use filebase64", name)
	}
	return string(data), err
}

// plainPathError names the file as the template does.
func plainPathError(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no file %q", name)
	}
	var inner *fs.PathError
	if errors.As(err, &inner) {
		err = inner.Err
	}
	return fmt.Errorf("read %q: %w", name, err)
}

// fileFunctions read the folder. What templatefile renders sees the functions
// in base, these ones included, but not templatefile itself.
func fileFunctions(f folder, base map[string]function.Function) map[string]function.Function {
	out := map[string]function.Function{
		"file": stringFunc(f.text),
		"filebase64": stringFunc(func(name string) (string, error) {
			data, err := f.read(name)
			return base64.StdEncoding.EncodeToString(data), err
		}),
		"fileexists": f.existsFunc(),
		"fileset":    f.setFunc(),
	}
	inner := maps.Clone(base)
	maps.Copy(inner, out)
	out["templatefile"] = f.templateFunc(&Language{functions: inner})
	return out
}

func (f folder) existsFunc() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "path", Type: cty.String}},
		Type:   function.StaticReturnType(cty.Bool),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			clean, err := f.resolve(args[0].AsString())
			if err != nil {
				return cty.NilVal, function.NewArgError(0, err)
			}
			info, err := fs.Stat(f.fsys, clean)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return cty.NilVal, function.NewArgError(0, plainPathError(args[0].AsString(), err))
			}
			return cty.BoolVal(err == nil && info.Mode().IsRegular()), nil
		},
	})
}

func (f folder) setFunc() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "path", Type: cty.String}, {Name: "pattern", Type: cty.String}},
		Type:   function.StaticReturnType(cty.Set(cty.String)),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			found, err := f.glob(args[0].AsString(), args[1].AsString())
			if err != nil || len(found) == 0 {
				return cty.SetValEmpty(cty.String), err
			}
			names := make([]cty.Value, len(found))
			for i, name := range found {
				names[i] = cty.StringVal(name)
			}
			return cty.SetVal(names), nil
		},
	})
}

func (f folder) glob(dir, pattern string) ([]string, error) {
	clean, err := f.resolve(dir)
	if err != nil {
		return nil, function.NewArgError(0, err)
	}
	below, err := fs.Sub(f.fsys, clean)
	if err != nil {
		return nil, function.NewArgError(0, err)
	}
	found, err := doublestar.Glob(below, pattern, doublestar.WithFilesOnly(), doublestar.WithNoFollow())
	if err != nil {
		return nil, function.NewArgErrorf(1, "%q is no pattern", pattern)
	}
	return slices.DeleteFunc(found, func(name string) bool {
		_, err := f.resolve(path.Join(clean, name))
		return err != nil
	}), nil
}

func (f folder) templateFunc(lang *Language) function.Function {
	render := func(args []cty.Value) (cty.Value, error) {
		name := args[0].AsString()
		src, err := f.text(name)
		if err != nil {
			return cty.NilVal, function.NewArgError(0, err)
		}
		if t := args[1].Type(); !t.IsObjectType() && !t.IsMapType() {
			return cty.NilVal, function.NewArgErrorf(1, "a mapping of names to values is required")
		}
		vars := map[string]cty.Value{}
		maps.Copy(vars, args[1].AsValueMap())
		out, problems := lang.render(src, At(src, diag.Pos{File: name, Line: 1, Column: 1}), vars)
		if problems.HasErrors() {
			return cty.NilVal, errors.New(problems[0].Error())
		}
		return out, nil
	}
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "path", Type: cty.String}, anyParam("vars")},
		Type: func(args []cty.Value) (cty.Type, error) {
			if !args[0].IsKnown() || !args[1].IsKnown() {
				return cty.DynamicPseudoType, nil
			}
			out, err := render(args)
			return out.Type(), err
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) { return render(args) },
	})
}

func (l *Language) render(src string, at Locator, vars map[string]cty.Value) (cty.Value, diag.List) {
	tree, problems := l.parseTemplate(src, at)
	if problems.HasErrors() {
		return cty.DynamicVal, problems
	}
	out, diags := tree.Value(&hcl.EvalContext{Variables: vars, Functions: l.functions})
	return out, evalProblems(diags, at, false)
}
