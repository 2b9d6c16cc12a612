package yaml_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/imgbake/imgbake-action/internal/expr"
	"github.com/imgbake/imgbake-action/internal/template/yaml"
)

// BenchmarkParse reads 1,000 images of 10 provisioners.
func BenchmarkParse(b *testing.B) {
	var src strings.Builder
	src.WriteString("variables: {suite: bookworm, version: dev}\nimages:\n")
	for i := range 1000 {
		fmt.Fprintf(&src, "  image%d:\n    builders: {docker: {image: \"debian:${var.suite}\"}}\n    provisioners:\n", i)
		for j := range 10 {
			fmt.Fprintf(&src, "      - shell: {inline: [echo %d, \"echo ${var.version}\"], env: {N: \"%d\"}}\n", j, j)
		}
	}
	b.SetBytes(int64(src.Len()))
	for b.Loop() {
		if _, problems := yaml.Parse("f", []byte(src.String()), expr.Options{}); len(problems) > 0 {
			b.Fatal(problems)
		}
	}
}
