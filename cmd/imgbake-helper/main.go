// Command imgbake-helper is the part of imgbake that runs inside build
// containers, on its own: small, because it is copied into each.
package main

import (
	"os"

	"github.com/imgbake/imgbake-action/internal/builder/docker/helper"
)

func main() { os.Exit(helper.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
