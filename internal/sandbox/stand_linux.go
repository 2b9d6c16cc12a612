package sandbox

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path"

	"github.com/imgbake/imgbake-action/internal/guest"
)

// stand puts files and folders where a machine without mounts cannot mount. They
// are in the machine's own copy of the tree, and removed with all that is in
// them; what was there before is moved aside meanwhile.
func (s *server) stand(m Mount, record *mounted, content *os.File) (err error) {
	target := record.target
	if _, err := os.Lstat(target); err == nil {
		hidden := path.Join(private, "hidden-"+rand.Text())
		if err := os.Rename(target, hidden); err != nil {
			return err
		}
		record.hidden = hidden
	}
	if record.made, err = guest.Place(target, m.File); err != nil {
		return err
	}
	record.whole = true
	switch {
	case m.File:
		return standFile(m, target, content)
	case m.Socket:
		return standSocket(target, content)
	}
	return errors.Join(os.Chown(target, m.UID, m.GID), os.Chmod(target, fs.FileMode(m.Mode)))
}

func standFile(m Mount, target string, content *os.File) error {
	if err := writeFile(target, content, 0o600); err != nil {
		return err
	}
	return errors.Join(os.Chown(target, m.UID, m.GID), os.Chmod(target, fs.FileMode(m.Mode)))
}

// standSocket makes the socket under a name that is short enough for one.
func standSocket(target string, to *os.File) error {
	name := path.Join(private, rand.Text())
	if err := listen(name, to); err != nil {
		return err
	}
	if err := os.Remove(target); err != nil { // the folder that place has made
		return err
	}
	return os.Rename(name, target)
}
