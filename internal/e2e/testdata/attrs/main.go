// Command attrs sets extended attributes in a container that has no tool for
// it: attrs FILE NAME HEX.
package main

import (
	"encoding/hex"
	"log"
	"os"
	"syscall"
)

func main() {
	value, err := hex.DecodeString(os.Args[3])
	if err != nil {
		log.Fatal(err)
	}
	if err := syscall.Setxattr(os.Args[1], os.Args[2], value, 0); err != nil {
		log.Fatalf("%s: %s: %v", os.Args[1], os.Args[2], err)
	}
}
