// Package packerjson reads Packer's legacy JSON templates into template.Template.
//
// It is strict, goes on after mistakes where their meaning is clear, and knows
// the line and column of everything. The JSON reader is in reader.go and
// text.go, the keys of a template in parse.go and components.go, Packer's
// template functions in interpolate.go (what a string needs), expr.go (its
// evaluation) and functions.go.
//
// Strings with Go template actions become value.Expr. What they read from the
// scope:
//
//	{{user `x`}}                     var.x
//	{{env `X`}}                      env.X, empty where the scope has none
//	{{build `ID`}}                   build.ID
//	{{build_name}} {{build_type}}    build.name, build.type
//	{{isotime}} {{strftime `%F`}} {{timestamp}}
//	                                 run.time, a time in RFC 3339
//	{{uuid}}                         run.uuid, any text that differs from run to run
//	{{pwd}} {{template_dir}}         path.cwd, path.root
//
// Actions that read data, such as {{.Path}}, are the component's to render:
// they stay in the text, with the facts above filled in.
package packerjson
