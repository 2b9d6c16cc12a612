//go:build !linux

package guest

import (
	"fmt"
	"io"
)

func run(string, []string, io.Reader, io.Writer, io.Writer) int {
	fmt.Println("the helper runs on Linux only")
	return StatusUsage
}
