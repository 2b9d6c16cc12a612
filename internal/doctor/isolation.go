package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

// enoughIDs is how many users and groups the files of a usual image have.
const enoughIDs = 1 << 16

// isolation says whether bakes can be kept apart here without an engine.
func (p Probes) isolation(context.Context) []Finding {
	if p.Root == nil {
		return nil
	}
	f := Finding{Name: "isolation", Optional: true}
	how, err := p.isolate()
	if err != nil {
		f.Detail, f.Hint = oneLine(err), isolationHint(err)
		return []Finding{f}
	}
	f.OK, f.Detail = true, how
	if !HasOverlay(p.Root) {
		f.Hint = "overlayfs is not there: modprobe overlay, or every layer is copied"
	}
	return []Finding{f}
}

// network says whether a bake without an engine can have a network of its own.
func (p Probes) network(ctx context.Context) []Finding {
	if p.Root == nil || p.Tool == nil {
		return nil
	}
	f := Finding{Name: "network", Optional: true}
	version, err := p.Tool(ctx, "slirp4netns")
	if err != nil {
		f.Detail, f.Hint = "slirp4netns: "+oneLine(err), "install slirp4netns: network: private without an engine needs it"
		return []Finding{f}
	}
	if _, err := fs.Stat(p.Root, "dev/net/tun"); err != nil {
		f.Detail, f.Hint = "/dev/net/tun is not there", "modprobe tun, or give the container --device /dev/net/tun: network: private needs it"
		return []Finding{f}
	}
	f.OK, f.Detail = true, "private, by "+version
	return []Finding{f}
}

// isolate returns the way that works, or the first thing that is missing.
func (p Probes) isolate() (string, error) {
	if err := Namespaces(p.Root); err != nil {
		return "", err
	}
	if p.UID == 0 {
		return "namespaces, as root", CanAdminister(p.Root)
	}
	if err := UserNamespaces(p.Root); err != nil {
		return "", err
	}
	for _, tool := range []string{"newuidmap", "newgidmap"} {
		if err := p.find(tool); err != nil {
			return "", err
		}
	}
	users, err := SubIDs(p.Root, "etc/subuid", p.UID)
	if err != nil {
		return "", err
	}
	groups, err := SubIDs(p.Root, "etc/subgid", p.UID)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("user namespaces, with %d users and %d groups", users, groups), nil
}

func (p Probes) find(tool string) error {
	if p.Find == nil {
		return nil
	}
	if _, err := p.Find(tool); err != nil {
		return fmt.Errorf("%s: %w", tool, errNoTool)
	}
	return nil
}

// What can be missing, to tell what to do about it.
var (
	errNoNamespaces  = errors.New("namespaces are missing")
	errNoPrivilege   = errors.New("root may not make namespaces here (CAP_SYS_ADMIN)")
	errUsersRefused  = errors.New("user namespaces are refused to users")
	errNoTool        = errors.New("not installed")
	errTooFewSubIDs  = errors.New("too few subordinate IDs")
	errNotRegistered = errors.New("no other platform's programs can run")
)

func isolationHint(err error) string {
	switch {
	case errors.Is(err, errNoPrivilege):
		return "this looks like a container: run it with --privileged, or bake with an engine"
	case errors.Is(err, errUsersRefused):
		return "let users make user namespaces (sysctl), or bake as root"
	case errors.Is(err, errNoTool):
		return "install uidmap (newuidmap, newgidmap), or bake as root"
	case errors.Is(err, errTooFewSubIDs):
		return "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 NAME"
	}
	return "bakes need an engine here"
}

// Namespaces reports which kinds that isolation takes the kernel lacks. The
// root is the machine's /.
func Namespaces(root fs.FS) error {
	entries, err := fs.ReadDir(root, "proc/self/ns")
	if err != nil {
		return fmt.Errorf("%w: this is not Linux, or /proc is not mounted", errNoNamespaces)
	}
	var missing []string
	for _, kind := range []string{"ipc", "mnt", "net", "pid", "uts"} {
		if !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == kind }) {
			missing = append(missing, kind)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: %s", errNoNamespaces, strings.Join(missing, ", "))
	}
	return nil
}

// capSysAdmin is the bit of CAP_SYS_ADMIN, see capabilities(7).
const capSysAdmin = 21

// CanAdminister reports whether this process may make namespaces and mounts.
func CanAdminister(root fs.FS) error {
	status, err := fs.ReadFile(root, "proc/self/status")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(status)) {
		if mask, ok := strings.CutPrefix(line, "CapEff:"); ok {
			bits, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
			if err == nil && bits&(1<<capSysAdmin) != 0 {
				return nil
			}
		}
	}
	return errNoPrivilege
}

// UserNamespaces reports why users who are not root cannot make user
// namespaces: the kernel has a limit, and distributions have switches.
func UserNamespaces(root fs.FS) error {
	if _, err := fs.Stat(root, "proc/self/ns/user"); err != nil {
		return fmt.Errorf("%w: the kernel has none", errUsersRefused)
	}
	for _, s := range []struct{ file, refused string }{
		{"proc/sys/user/max_user_namespaces", "0"},
		{"proc/sys/kernel/unprivileged_userns_clone", "0"},             // Debian before 11
		{"proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"}, // Ubuntu since 23.10
	} {
		value, err := fs.ReadFile(root, s.file)
		if err == nil && strings.TrimSpace(string(value)) == s.refused {
			return fmt.Errorf("%w: /%s is %s", errUsersRefused, s.file, s.refused)
		}
	}
	return nil
}

// HasOverlay reports whether the kernel has overlayfs now. Root may have it
// loaded by the first mount.
func HasOverlay(root fs.FS) bool {
	data, err := fs.ReadFile(root, "proc/filesystems")
	return err == nil && slices.Contains(strings.Fields(string(data)), "overlay")
}

// SubIDs is how many IDs a user may map, by etc/subuid or etc/subgid. Lines
// name the user, or give the number.
func SubIDs(root fs.FS, file string, uid int) (int64, error) {
	data, err := fs.ReadFile(root, file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	names := []string{strconv.Itoa(uid)}
	if name := userName(root, uid); name != "" {
		names = append(names, name)
	}
	var total int64
	for line := range strings.Lines(string(data)) {
		parts := strings.Split(strings.TrimSpace(line), ":")
		if len(parts) != 3 || !slices.Contains(names, parts[0]) {
			continue
		}
		if n, err := strconv.ParseUint(parts[2], 10, 32); err == nil {
			total += int64(n)
		}
	}
	if total < enoughIDs {
		return total, fmt.Errorf("%w: /%s gives user %s %d", errTooFewSubIDs, file, names[len(names)-1], total)
	}
	return total, nil
}

// userName looks in etc/passwd; "" for who is not there.
func userName(root fs.FS, uid int) string {
	data, err := fs.ReadFile(root, "etc/passwd")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		if parts := strings.Split(line, ":"); len(parts) > 2 && parts[2] == strconv.Itoa(uid) {
			return parts[0]
		}
	}
	return ""
}

// Platform is one whose programs the kernel hands to an interpreter.
type Platform struct {
	Name        string // as in linux/arm64
	Interpreter string
	Fixed       bool // the interpreter is found from inside of containers, too (flag F)
}

// Platforms are those of binfmt_misc that are enabled, sorted by name.
func Platforms(root fs.FS) ([]Platform, error) {
	const dir = "proc/sys/fs/binfmt_misc"
	entries, err := fs.ReadDir(root, dir)
	if err != nil {
		return nil, err
	}
	if status, err := fs.ReadFile(root, dir+"/status"); err == nil && strings.TrimSpace(string(status)) != "enabled" {
		return nil, nil
	}
	var found []Platform
	for _, e := range entries {
		if e.IsDir() || e.Name() == "register" || e.Name() == "status" { // register is for writing
			continue
		}
		text, err := fs.ReadFile(root, dir+"/"+e.Name())
		if err != nil {
			return nil, err
		}
		if p, ok := parseFormat(string(text)); ok {
			found = append(found, p)
		}
	}
	slices.SortFunc(found, func(a, b Platform) int { return cmp.Compare(a.Name, b.Name) })
	return found, nil
}

// parseFormat reads an entry of binfmt_misc. Its name is anybody's choice, so
// the platform is told by the ELF header that the entry looks for.
func parseFormat(text string) (p Platform, ok bool) {
	for i, line := range strings.Split(strings.TrimSpace(text), "\n") {
		key, value, _ := strings.Cut(line, " ")
		switch {
		case i == 0 && line != "enabled":
			return p, false
		case key == "interpreter":
			p.Interpreter = value
		case key == "flags:":
			p.Fixed = strings.Contains(value, "F")
		case key == "offset" && value != "0":
			return p, false
		case key == "magic":
			p.Name = elfPlatform(value)
		}
	}
	return p, p.Name != ""
}

// elfMachines are the platforms, by the bits and byte order of an ELF header
// and its machine number.
var elfMachines = map[[3]byte]string{
	{1, 1, 3}: "linux/386", {2, 1, 62}: "linux/amd64", {1, 1, 40}: "linux/arm", {2, 1, 183}: "linux/arm64",
	{2, 1, 243}: "linux/riscv64", {2, 1, 21}: "linux/ppc64le", {2, 2, 22}: "linux/s390x", {2, 1, 8}: "linux/mips64le",
}

// elfPlatform tells the platform of a header in hex; "" for any other file.
func elfPlatform(magic string) string {
	const machine = 18 // offset of e_machine, two bytes
	if len(magic) < 2*(machine+2) || !strings.HasPrefix(magic, "7f454c46") {
		return ""
	}
	at := func(i int) byte {
		n, err := strconv.ParseUint(magic[2*i:2*i+2], 16, 8)
		if err != nil {
			return 0
		}
		return byte(n)
	}
	low, high := at(machine), at(machine+1)
	if at(5) == 2 { // big endian
		low, high = high, low
	}
	if high != 0 {
		return ""
	}
	return elfMachines[[3]byte{at(4), at(5), low}]
}

// platforms says for which platforms bakes can run here by emulation.
func (p Probes) platforms(context.Context) []Finding {
	if p.Root == nil {
		return nil
	}
	f := Finding{Name: "platforms", Optional: true}
	all, err := Platforms(p.Root)
	if err == nil && len(all) == 0 || errors.Is(err, fs.ErrNotExist) {
		err = errNotRegistered
	}
	if err != nil {
		f.Detail, f.Hint = oneLine(err), "install qemu-user-static and binfmt-support to bake for other platforms"
		return []Finding{f}
	}
	var names, loose []string
	for _, one := range all {
		names = append(names, one.Name)
		if !one.Fixed {
			loose = append(loose, one.Name)
		}
	}
	f.OK, f.Detail = true, strings.Join(names, ", ")+" by emulation"
	if len(loose) > 0 {
		f.Hint = strings.Join(loose, ", ") + ": registered without the flag F, which containers need"
	}
	return []Finding{f}
}
