package sandbox

import (
	"fmt"
	"math"
	"slices"
	"unsafe"

	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Where seccomp_data has what (seccomp(2)). Arguments are 64 bits; of those
// looked at here the low half is all there is.
const (
	dataNumber    = 0
	dataArch      = 4
	dataArguments = 16
)

// newNamespaces are the flags of clone(2) that make namespaces.
const newNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// x32Calls is where the system calls of amd64's x32 ABI begin.
const x32Calls = 0x40000000

// families of sockets that are no step's business: the kernel's ciphers, and the
// hypervisor.
var families = []uint32{unix.AF_ALG, unix.AF_VSOCK}

func answerWith(errno unix.Errno) bpf.Instruction {
	return bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO | uint32(errno)}
}

// filter refuses system calls to this thread and what it starts. Mounting is
// allowed to those who were given the capability for it.
func (o Options) filter() error {
	names := slices.Clone(refused)
	mounts := o.rights()&(1<<slices.Index(capabilities, "SYS_ADMIN")) != 0
	if mounts {
		names = names[:slices.Index(names, "mount")]
	}
	native, err := arch.GetInfo("")
	if err != nil {
		return err
	}
	program := []bpf.Instruction{bpf.LoadAbsolute{Off: dataArch, Size: 4}}
	for _, a := range append([]*arch.Info{native}, also(native)...) {
		part := judge(a, names, mounts)
		program = append(program,
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(a.ID), SkipTrue: 1}, bpf.Jump{Skip: uint32(len(part))})
		program = append(program, part...)
	}
	return install(append(program, answerWith(unix.ENOSYS)))
}

// also are the architectures whose programs a kernel runs besides its own: they
// are judged too, or they would be a way around.
func also(native *arch.Info) []*arch.Info {
	switch native.ID {
	case arch.X86_64.ID:
		return []*arch.Info{arch.I386}
	case arch.AARCH64.ID:
		return []*arch.Info{arch.ARM}
	}
	return nil
}

// judge is the program for the calls of one architecture. It always answers.
func judge(a *arch.Info, names []string, mounts bool) []bpf.Instruction {
	part := []bpf.Instruction{bpf.LoadAbsolute{Off: dataNumber, Size: 4}}
	if a.ID == arch.X86_64.ID {
		part = append(part, bpf.JumpIf{Cond: bpf.JumpLessThan, Val: x32Calls, SkipTrue: 1}, answerWith(unix.ENOSYS))
	}
	on := func(name string, then ...bpf.Instruction) {
		if n, ok := a.SyscallNames[name]; ok {
			part = append(part, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(n), SkipTrue: uint8(len(then))})
			part = append(part, then...)
		}
	}
	for _, name := range names {
		on(name, answerWith(unix.EPERM))
	}
	allow := bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW}
	argument := func(i uint32) bpf.Instruction { return bpf.LoadAbsolute{Off: dataArguments + 8*i, Size: 4} }
	if !mounts {
		on("clone3", answerWith(unix.ENOSYS)) // its flags are out of sight: libraries use clone then
		on("clone", argument(0), bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: newNamespaces, SkipFalse: 1}, answerWith(unix.EPERM), allow)
	}
	socket := []bpf.Instruction{argument(0)}
	for _, family := range families {
		socket = append(socket, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: family, SkipTrue: 1}, answerWith(unix.EAFNOSUPPORT))
	}
	on("socket", append(socket, allow)...)
	return append(part, allow)
}

// install loads a filter for this thread.
func install(program []bpf.Instruction) error {
	raw, err := bpf.Assemble(program)
	if err != nil {
		return err
	}
	if len(raw) > math.MaxUint16 {
		return fmt.Errorf("%d instructions", len(raw))
	}
	code := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		code[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	prog := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog))); errno != 0 {
		return errno
	}
	return nil
}
