// Package templates holds the starter templates that `imgbake init` writes.
// They are plain files, to be read and copied without imgbake too.
package templates

import "embed"

// FS is the starter templates, one folder each, and the workflow in github.
//
//go:embed hello web packer github
var FS embed.FS
