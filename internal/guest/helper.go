// Package guest is what imgbake runs inside a container: a first process that
// reaps orphans, a parent for every command that can end all it started, and
// the ends of the streams that carry files and differences in and out.
//
// The program is imgbake itself, or the small imgbake-helper, copied into the
// container. The package imports little, so that the small one stays small.
package guest

import (
	"io"
	"path"
	"strings"

	"github.com/imgbake/imgbake-action/internal/layer"
)

// Path is where the helper lies inside a container.
const Path = "/" + layer.HelperDir + "/helper"

// RunDir holds what commands leave for the helper; any user may write to it.
const RunDir = "/" + layer.HelperDir + "/run"

// SharedDir is where the helper that mounts has the folders it shows.
const SharedDir = "/" + layer.HelperDir + "/shared"

// SizeRecord is the limit of a tmpfs, in bytes, in the tar of Mounts.
const SizeRecord = "IMGBAKE.size"

// Version changes when what Scan or Delta tell changes: what was cached from
// an older helper is then not used.
const Version = "1"

// The subcommands.
const (
	Pause  = prefix + "pause"  // be process 1 until TERM, or the end of input unless a Detach byte came
	Exec   = prefix + "exec"   // exec ID DIR ARGS...: run a command; a DIR that starts with ? need not be there
	Kill   = prefix + "kill"   // kill ID [PROC]: end what exec ID started, as the proc file system tells
	Why    = prefix + "why"    // why ID: say why exec ID could not run its command; nothing if it did run
	Scan   = prefix + "scan"   // scan: write the index of / to the output
	Delta  = prefix + "delta"  // delta SINCE: read an index, write the difference of / to it
	Settle = prefix + "settle" // settle SINCE: read an index, give the files the times it tells
	Put    = prefix + "put"    // put DIR: unpack the tar on the input
	Get    = prefix + "get"    // get PATH: write a tar
	Mounts = prefix + "mounts" // mounts: show what the tar on the input says where process 1 is, then relay its sockets until the input ends

	prefix = "helper-"
)

// Detach is the byte that tells Pause to live on after the end of its input.
const Detach = 'd'

// The exit statuses of the helper itself.
const (
	StatusFailed    = 1
	StatusUsage     = 2
	StatusMissing   = 3   // get: no such file; why: exec never got so far, or ended well
	StatusRefused   = 4   // mounts: this kernel or engine does not allow it
	StatusCannotRun = 126 // exec: from here on, see why
	StatusNotFound  = 127
)

// Is reports whether a program's arguments, its name first, ask for the helper.
func Is(args []string) bool { return len(args) > 1 && strings.HasPrefix(args[1], prefix) }

// Main carries out one subcommand; args are without the program's name. It
// returns the exit status.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		return StatusUsage
	}
	return run(args[0], args[1:], stdin, stdout, stderr)
}

// reasonFile is where exec tells why it could not run a command.
func reasonFile(id string) string { return path.Join(RunDir, path.Base(id)) }
