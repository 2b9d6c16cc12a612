package shellscript

import (
	"bytes"
	"context"
	"crypto/rand"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/imgbake/imgbake-action/internal/bake"
)

// The small programs that take a script from standard input, where no other
// process can read it. The script itself gets an empty standard input.
const (
	// evalProgram runs the script in the shell itself: no file, one process.
	evalProgram = `__imgbake=$(cat) || exit 126; exec </dev/null; eval "unset __imgbake; $__imgbake"`
	// fileProgram writes the script to the file $1, runs the arguments after
	// $2 and removes the file unless $2 is "keep".
	fileProgram = `__imgbake_file=$1 __imgbake_keep=$2; shift 2
case $__imgbake_file in */*) (umask 022; [ -d "${__imgbake_file%/*}" ] || mkdir -p -- "${__imgbake_file%/*}") || exit 126;; esac
rm -f -- "$__imgbake_file" && (umask 077; set -C; cat >"$__imgbake_file") && chmod 700 -- "$__imgbake_file" || exit 126
exec </dev/null
"$@"; __imgbake_status=$?
[ "$__imgbake_keep" = keep ] || rm -f -- "$__imgbake_file"
exit $__imgbake_status`
	// inPlaceProgram runs the script $1 whether it is executable or not.
	inPlaceProgram = `if [ -x "$1" ]; then exec "$1"; fi
IFS= read -r __imgbake <"$1"
case $__imgbake in '#!'*) exec ${__imgbake#'#!'} "$1";; esac
exec /bin/sh "$1"`
)

// Runner hands scripts to an executor.
type Runner struct {
	Executor bake.Executor
	Cmd      bake.Cmd // environment, directory, user and output; Args and Stdin are set here
	Keep     bool     // leave script files behind
}

// Inline runs a script text by a shell that reads it from standard input. ok
// is false, and nothing was run, when the shebang's interpreter is no shell or
// would show its own input: write it to a File then.
func (r Runner) Inline(ctx context.Context, shebang, text string) (status int, ok bool, err error) {
	interpreter := strings.Fields(shebang)
	if !evaluates(interpreter) {
		return 0, false, nil
	}
	cmd := r.Cmd
	cmd.Args = append(interpreter, "-c", evalProgram, "inline")
	cmd.Stdin = strings.NewReader(text)
	status, err = r.Executor.Exec(ctx, cmd)
	return status, true, err
}

var shells = []string{"sh", "bash", "dash", "ash", "ksh", "mksh", "zsh"}

// evaluates reports whether the interpreter is a shell without options that
// make it trace or read its input otherwise.
func evaluates(interpreter []string) bool {
	words, ok := shellWords(interpreter)
	return ok && !slices.ContainsFunc(words[1:], func(option string) bool {
		return strings.HasPrefix(option, "--") || strings.HasPrefix(option, "-") && strings.ContainsAny(option, "xvcsi") ||
			option == "xtrace" || option == "verbose"
	})
}

// shellWords returns an interpreter less a leading env, and whether it is a
// shell.
func shellWords(interpreter []string) ([]string, bool) {
	if len(interpreter) > 1 && path.Base(interpreter[0]) == "env" {
		interpreter = interpreter[1:]
	}
	return interpreter, len(interpreter) > 0 && slices.Contains(shells, path.Base(interpreter[0]))
}

// IsShell reports whether a script is written for a shell, going by its first
// line. One without a #! is run by the shell.
func IsShell(text []byte) bool {
	first, _, _ := bytes.Cut(text, []byte("\n"))
	interpreter, ok := bytes.CutPrefix(first, []byte("#!"))
	if !ok {
		return !bytes.Contains(text, []byte{0})
	}
	_, ok = shellWords(strings.Fields(string(interpreter)))
	return ok
}

// File writes a script to a path inside and runs args, or the path itself if
// there are none. The file is removed afterwards, also after a failure.
func (r Runner) File(ctx context.Context, file string, text []byte, args ...string) (int, error) {
	keep := ""
	if r.Keep {
		keep = "keep"
	}
	if len(args) == 0 {
		args = []string{file}
	}
	cmd := r.Cmd
	cmd.Args = append([]string{"/bin/sh", "-c", fileProgram, "sh", file, keep}, args...)
	cmd.Stdin = bytes.NewReader(text)
	status, err := r.Executor.Exec(ctx, cmd)
	if err != nil && !r.Keep {
		r.Remove(ctx, file)
	}
	return status, err
}

// removeTimeout is how long cleaning up may take after a cancellation.
const removeTimeout = 5 * time.Second

// Remove deletes files inside. It does so even when the context was cancelled,
// and says nothing: the machine may be gone.
func (r Runner) Remove(ctx context.Context, paths ...string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTimeout)
	defer cancel()
	args := append([]string{"rm", "-rf", "--"}, paths...)
	_, _ = r.Executor.Exec(ctx, bake.Cmd{Args: args, User: r.Cmd.User})
}

// InPlace runs a script that lies where the executor runs.
func (r Runner) InPlace(ctx context.Context, file string) (int, error) {
	cmd := r.Cmd
	cmd.Args = []string{"/bin/sh", "-c", inPlaceProgram, "sh", file}
	return r.Executor.Exec(ctx, cmd)
}

// TempPath is a path in a folder that nobody can guess.
func TempPath(folder, suffix string) string {
	return path.Join(folder, "imgbake-"+strings.ToLower(rand.Text())+suffix)
}
