// Command reach says which addresses answer: reach FILE HOST:PORT... writes one
// line for each, with "yes" or "no" in front.
package main

import (
	"fmt"
	"log"
	"net"
	"os"
	"strings"
	"time"
)

func main() {
	var out strings.Builder
	for _, address := range os.Args[2:] {
		answer := "no"
		if conn, err := net.DialTimeout("tcp", address, 2*time.Second); err == nil {
			conn.Close()
			answer = "yes"
		}
		fmt.Fprintln(&out, answer, address)
	}
	if err := os.WriteFile(os.Args[1], []byte(out.String()), 0o644); err != nil {
		log.Fatal(err)
	}
}
