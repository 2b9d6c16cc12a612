package shell

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/shellscript"
)

// The default formats of a variable on a command line and in a file.
const (
	lineFormat = "%s='%s' "
	fileFormat = "export %s='%s'\n"
)

// upload is what execute_command works on: a folder with an unguessable name
// that cannot be listed, so that sudo, su and the like can read what is in it
// as any user, but nobody else can.
type upload struct {
	folder, script, envFile string
	text, env               []byte
}

// runCommand uploads the script and runs it by the user's own command. The
// command itself is read from standard input: it may hold a password.
func (p provisioner) runCommand(ctx context.Context, env bake.Env, r shellscript.Runner, s script) (int, error) {
	u, vars := p.prepare(env, s)
	command, err := shellscript.Render(p.ExecuteCommand, shellscript.CommandData{
		Vars: vars, Path: u.script, Script: u.script, EnvVarFile: u.envFile,
	})
	if err != nil {
		return 0, err
	}
	if !p.SkipClean {
		cleaner := r
		cleaner.Cmd.User = "" // the folder is root's
		defer cleaner.Remove(ctx, u.script, u.folder)
	}
	if err := u.put(ctx, env); err != nil {
		return 0, err
	}
	status, ok, err := r.Inline(ctx, "/bin/sh", command)
	if !ok {
		return 0, errors.New("execute_command needs /bin/sh")
	}
	return status, err
}

// prepare lays out the files and decides how the variables get to the script.
func (p provisioner) prepare(env bake.Env, s script) (u upload, vars string) {
	u.folder = shellscript.TempPath(p.RemoteFolder, "")
	u.envFile = shellscript.TempPath(u.folder, ".env")
	u.script = p.RemotePath
	switch {
	case u.script == "" && p.RemoteFile != "":
		u.script = path.Join(p.RemoteFolder, p.RemoteFile)
	case u.script == "":
		u.script = shellscript.TempPath(u.folder, ".sh")
	}
	all := p.vars(env)
	text := s.text
	switch {
	case p.EnvVarFormat != "" && !p.UseEnvVarFile:
		vars = shellscript.Assignments(all, p.EnvVarFormat)
	case !strings.Contains(p.ExecuteCommand, ".Vars"):
	case p.Binary || !shellscript.IsShell(text) || otherLanguage.MatchString(p.ExecuteCommand):
		vars = shellscript.Assignments(all, lineFormat)
	default:
		vars = shellscript.Marker
		text = withPrelude(text, ". "+u.envFile+"; ")
	}
	format := fileFormat
	if p.EnvVarFormat != "" && p.UseEnvVarFile {
		format = p.EnvVarFormat
	}
	u.text, u.env = text, []byte(shellscript.Assignments(all, format))
	return u, strings.TrimSuffix(vars, " ")
}

// otherLanguage finds the interpreter of another language in front of the
// script: what it runs cannot source a file of variables.
var otherLanguage = regexp.MustCompile(`\b(perl|python[0-9.]*|ruby|node|php|lua|awk|tclsh|pwsh|Rscript)\b[^;|&]*\{\{\s*\.Path\b`)

// put uploads the folder, and the script apart if it has a path of its own.
func (u upload) put(ctx context.Context, env bake.Env) error {
	base := path.Base(u.folder)
	entries := []entry{
		{name: base + "/", mode: 0o711},
		{name: path.Join(base, path.Base(u.envFile)), mode: 0o644, text: u.env},
	}
	script := entry{name: path.Base(u.script), mode: 0o755, text: u.text}
	if path.Dir(u.script) == u.folder {
		script.name = path.Join(base, script.name)
		entries = append(entries, script)
	} else if err := put(ctx, env, path.Dir(u.script), script); err != nil {
		return err
	}
	return put(ctx, env, path.Dir(u.folder), entries...)
}

// entry is a file to upload, or a directory if its name ends in a slash.
type entry struct {
	name string
	mode int64
	text []byte
}

func put(ctx context.Context, env bake.Env, dir string, entries ...entry) error {
	var stream bytes.Buffer
	w := tar.NewWriter(&stream)
	for _, e := range entries {
		header := &tar.Header{Name: e.name, Mode: e.mode, Size: int64(len(e.text)), ModTime: env.Job.FileTime()}
		if err := w.WriteHeader(header); err != nil {
			return fmt.Errorf("packing %s: %w", e.name, err)
		}
		if _, err := w.Write(e.text); err != nil {
			return fmt.Errorf("packing %s: %w", e.name, err)
		}
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("packing for %s: %w", dir, err)
	}
	if err := env.Communicator.Put(ctx, dir, &stream); err != nil {
		return fmt.Errorf("uploading the script: %w", err)
	}
	return nil
}

// withPrelude puts a command before the first line of a script, after a #!
// line, so that line numbers stay what they are.
func withPrelude(text []byte, prelude string) []byte {
	at := 0
	if bytes.HasPrefix(text, []byte("#!")) {
		if end := bytes.IndexByte(text, '\n'); end >= 0 {
			at = end + 1
		} else {
			text = append(slices.Clip(text), '\n')
			at = len(text)
		}
	}
	return slices.Concat(text[:at], []byte(prelude), text[at:])
}
