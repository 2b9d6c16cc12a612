// Command imgbake-helper is the part of imgbake that runs inside build
// containers, on its own: small, because it is copied into each.
package main

import (
	"os"

	"github.com/imgbake/imgbake-action/internal/guest"
)

func main() { os.Exit(guest.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
