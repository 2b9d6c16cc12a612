//go:build !linux

package sandbox

// Is reports whether a program's arguments ask for Main: never here.
func Is([]string) bool { return false }

// Main is a machine's first process; it exists on Linux only.
func Main() int { return 2 }
