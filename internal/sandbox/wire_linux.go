package sandbox

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// setup is the first message to a machine's first process.
type setup struct {
	Options
	Root     string   // the machine's folder: upper, work and merged, or the tree itself
	Lowers   []string // folders of unpacked layers, lowest first
	UserNS   bool
	Helper   string // this program's file
	Resolv   []byte // contents of /etc/resolv.conf
	Unpack   bool   // unpack a layer into the tree, and end
	Plain    bool   // the tree is a plain folder to unpack into, at Root
	Remove   string // a folder to remove, with the rights of the user namespace, and end
	Squashed bool   // everything has one owner

	old    string   // this machine's tree, while the new one is set up
	shared *os.File // the shared folder
	limits *cgroup  // what the process that gets this is put into; nil: nothing
}

// request asks a running machine for something. The descriptors that come with
// it are the reply's connection and standard input, output and error.
type request struct {
	Op    string   // exec, guest, delta, settle, mount, unmount
	Args  []string // of exec: id, dir, command...; of guest: a subcommand of the helper
	Env   []string
	User  string
	TTY   bool
	Since int64
	Mount *Mount
}

// reply is how a request ended.
type reply struct {
	Status int
	Error  string
	Denied bool // the machine's kernel refuses it
}

// descriptors sent at once, at most: of a request the conversation and its
// standard input, output and error.
const maxDescriptors = 4

// pass sends descriptors over a socket.
func pass(conn *net.UnixConn, files ...*os.File) error {
	fds := make([]int, len(files))
	for i, f := range files {
		fds[i] = int(f.Fd())
	}
	_, _, err := conn.WriteMsgUnix([]byte{0}, unix.UnixRights(fds...), nil)
	return err
}

// take receives descriptors from a socket.
func take(conn *net.UnixConn) ([]*os.File, error) {
	var text [1]byte
	oob := make([]byte, unix.CmsgSpace(4*maxDescriptors))
	n, oobn, _, _, err := conn.ReadMsgUnix(text[:], oob)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, io.EOF
	}
	return descriptors(oob[:oobn])
}

func descriptors(oob []byte) ([]*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return files, err
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "passed"))
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// socketPair is two connected sockets: one to use here, one to pass on.
func socketPair() (*net.UnixConn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socket pair: %w", err)
	}
	conn, err := unixConn(os.NewFile(uintptr(fds[0]), "socket"))
	if err != nil {
		unix.Close(fds[1])
		return nil, nil, err
	}
	return conn, os.NewFile(uintptr(fds[1]), "socket"), nil
}

// unixConn makes a connection of a descriptor, which it closes.
func unixConn(f *os.File) (*net.UnixConn, error) {
	defer f.Close()
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	c, ok := conn.(*net.UnixConn)
	if !ok {
		conn.Close()
		return nil, errors.New("not a unix socket")
	}
	return c, nil
}
