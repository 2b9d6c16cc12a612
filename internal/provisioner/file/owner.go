package file

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"

	"github.com/imgbake/imgbake-action/internal/bake"
)

// owner is a user and a group by number.
type owner struct{ uid, gid int }

// ownerSpec is an owner as the template has it.
type ownerSpec struct{ user, group string }

func parseOwner(s string) (ownerSpec, error) {
	user, group, both := strings.Cut(s, ":")
	bad := func(part string) bool { return part == "" || strings.ContainsAny(part, ": \t\n/") }
	if bad(user) || both && bad(group) {
		return ownerSpec{}, fmt.Errorf("owner %q is not user or user:group", s)
	}
	return ownerSpec{user, group}, nil
}

// resolveOwner finds the numbers of names in the machine's own tables. A
// number alone is user and group.
func resolveOwner(ctx context.Context, c bake.Communicator, s string) (owner, error) {
	if s == "" {
		return owner{}, nil
	}
	spec, err := parseOwner(s)
	if err != nil {
		return owner{}, err
	}
	var o owner
	if id, err := strconv.Atoi(spec.user); err == nil {
		o = owner{id, id}
	} else if o, err = lookup(ctx, c, "/etc/passwd", spec.user); err != nil {
		return owner{}, err
	}
	if spec.group == "" {
		return o, nil
	}
	if id, err := strconv.Atoi(spec.group); err == nil {
		o.gid = id
		return o, nil
	}
	group, err := lookup(ctx, c, "/etc/group", spec.group)
	o.gid = group.uid
	return o, err
}

// lookup finds name in /etc/passwd or /etc/group, whose third and, in passwd,
// fourth columns are numbers.
func lookup(ctx context.Context, c bake.Communicator, table, name string) (owner, error) {
	text, err := readFile(ctx, c, table)
	if err != nil {
		return owner{}, fmt.Errorf("owner %q: %w", name, err)
	}
	for line := range strings.Lines(text) {
		columns := strings.Split(strings.TrimSpace(line), ":")
		if len(columns) < 4 || columns[0] != name {
			continue
		}
		id, err := strconv.Atoi(columns[2])
		if err != nil {
			return owner{}, fmt.Errorf("owner %q: %s has %q for its number", name, table, columns[2])
		}
		gid, _ := strconv.Atoi(columns[3]) // a group's members stand here
		return owner{id, gid}, nil
	}
	return owner{}, fmt.Errorf("owner %q: not in the machine's %s", name, table)
}

// maxTable is more than any real /etc/passwd holds.
const maxTable = 16 << 20

// readFile reads a small file of the machine.
func readFile(ctx context.Context, c bake.Communicator, name string) (string, error) {
	stream, err := c.Get(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("the machine has no %s", name)
	}
	if err != nil {
		return "", err
	}
	defer stream.Close()
	r := tar.NewReader(bufio.NewReader(stream))
	header, err := r.Next()
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	if header.Typeflag != tar.TypeReg {
		return "", fmt.Errorf("%s is no regular file", name)
	}
	text, err := io.ReadAll(io.LimitReader(r, maxTable))
	return string(text), err
}
