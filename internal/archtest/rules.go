package archtest

// Rule says what packages may import of this module. The first rule whose
// Package matches counts. A package may always import those below itself.
type Rule struct {
	Package string
	May     string // patterns, separated by spaces
}

// Fence keeps a third-party module, or a part of one, behind packages.
type Fence struct {
	Module string
	Inside []string
}

// Rules are the layers, lowest first. Imports go downwards only, and siblings
// (two builders, two provisioners) never import each other.
var Rules = []Rule{
	// 0: words everybody uses.
	{"diag", ""},
	{"actions", "diag"},
	{"value", "diag"},
	{"secret", "diag"},
	{"expr", "diag value"},
	{"templates", ""},
	{"tagrule", "diag"},
	{"comment", "diag"},
	{"packages", "diag"},

	// 1: the nouns, what a template says, what layers and registries are.
	{"bake", "diag secret value"},
	{"bake/baketest", "bake diag secret value"},
	{"template", "diag value"},
	{"template/*", "template diag value expr secret"},
	{"layer", "diag"},
	{"registry", "diag secret value"},
	{"registry/registrytest", ""},

	// 2: tools that components share.
	{"store", "bake layer registry secret diag"},
	{"communicator", "bake secret diag"},
	{"communicator/*", "communicator bake secret diag"},
	{"vars", "template expr value secret diag"},
	{"shellscript", "bake diag secret value"},
	{"imageconfig", "bake diag value"},
	{"sink", "bake diag secret"},
	{"doctor", "bake diag"},
	{"guest", "layer"},
	{"source", "bake diag imageconfig layer registry secret store value"},
	{"sandbox", "bake diag secret layer guest communicator"},

	// 3: the plan, and the components.
	{"plan", "bake diag expr template value vars"},
	{"builder/*", "bake doctor diag secret value layer store registry communicator communicator/* imageconfig guest sandbox source"},
	{"provisioner/*", "bake diag secret value shellscript"},
	{"post/*", "bake diag secret value store registry shellscript imageconfig"},
	{"publish", "bake diag secret value store registry"},

	// 4: doing it, and the list of everything there is to do it with.
	{"run", "bake diag secret expr value store plan"},
	{"stepcache", "bake diag layer plan registry run store"},
	{"catalog", "bake builder/* provisioner/* post/* store registry"},

	// 5: telling about it.
	{"report", "bake comment diag value plan run"},
	{"github", "diag secret"},
	{"github/githubtest", ""},
	{"reference", "bake diag value plan template template/*"},
	{"scaffold", "diag templates"},

	// 6: the command line. It chooses front ends, and never names a component.
	{"cli", "actions bake comment communicator/* diag doctor expr github layer packages plan publish reference registry report run sandbox scaffold secret sink stepcache store tagrule template template/* templates value vars"},
	{"archtest", ""},

	// 7: the programs.
	{"cmd/imgbake", "cli catalog guest sandbox"},
	{"cmd/imgbake-helper", "guest"},

	// Workshop: what measures and tries the program, and is not part of it.
	{"e2e", "**"},
	{"e2e/runner", ""},
	{"scripts/*", "**"},
}

// Fences are the third parties that must not spread.
var Fences = []Fence{
	{"github.com/docker/docker", []string{"builder/docker", "builder/docker/**"}},
	{"github.com/docker/cli", []string{"builder/docker", "builder/docker/**"}},
	{"github.com/google/go-github", []string{"github"}},
	{"gopkg.in/yaml.v3", []string{"template/yaml", "vars"}},
	{"golang.org/x/crypto/ssh", []string{"communicator/ssh"}},
	{"github.com/google/go-containerregistry/pkg/v1/remote", []string{"registry"}},
	{"github.com/google/go-containerregistry/pkg/authn", []string{"registry"}},
	{"github.com/hashicorp/hcl/v2", []string{"expr", "vars", "template/*"}},
	{"github.com/zclconf/go-cty", []string{"expr", "vars", "template/*"}},
	{"github.com/spf13/cobra", []string{"cli"}},
	{"github.com/spf13/pflag", []string{"cli"}},
	{"github.com/charmbracelet", []string{"sink"}},
	{"github.com/pkg/errors", nil},
	{"github.com/stretchr/testify", nil},
}

// Hard bounds. Shorter is better; see the measures that the test prints.
const (
	maxFunction = 100 // lines
	maxFile     = 600 // lines
)

// outsideWorld are names that reach out of the program. They are passed in
// from main, so that a test can pass others.
var outsideWorld = map[string]string{
	"os.Exit": "only main ends the program: return an error", "log.Fatal": "return an error", "log.Fatalf": "return an error",
	"log.Fatalln": "return an error", "log.Panic": "return an error", "log.Panicf": "return an error",
	"os.Getenv": "main passes the environment in", "os.LookupEnv": "main passes the environment in", "os.Environ": "main passes the environment in",
	"os.Stdin": "main passes streams in", "os.Stdout": "main passes streams in", "os.Stderr": "main passes streams in",
	"time.Now": "main passes the clock in",
}

// mayReachOut are the packages to which some of that does not apply, and why.
var mayReachOut = map[string][]string{
	// The body of a program that runs inside of containers.
	"internal/guest": {"os.Stdin", "os.Stdout", "os.Stderr", "os.Getenv", "time.Now"},
	// A file's age is judged by the file system's clock, which is the real one.
	"internal/store": {"time.Now"},
	// When a machine began is compared with ctimes, which are the kernel's.
	"internal/sandbox": {"time.Now"},
}
