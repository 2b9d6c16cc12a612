package cli

import (
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/registry"
	"github.com/imgbake/imgbake-action/internal/secret"
)

// selection is what every command that resolves a template takes.
type selection struct {
	vars, varFiles []string
	only, except   []string
	platforms      []string
	allowHostExec  bool
	given          given
	warnUndeclared bool // accepted for Packer's users: unknown names are always told
}

// given is what the action tells besides the flags that it fills.
type given struct {
	inputs   map[string]string // variables: less than a flag, more than the environment
	secrets  map[string]string // likewise, and not to be shown
	withheld bool              // no secret is given to this run
	git      map[string]any    // what the event says of the commit; nil: git is asked
	tags     []string          // what "auto" stands for; nil: what the checkout says
	publish  []destination     // besides what the template says
	mask     func(...string)   // told every secret before anything is shown
	sink     bake.Sink         // in place of the face that the flags choose

	labels, annotations map[string]string // of what is published
}

func (s *selection) add(flags *pflag.FlagSet) {
	s.addVars(flags)
	flags.StringSliceVar(&s.only, "only", nil, "bake only these: names or globs over image, builder or image.builder")
	flags.StringSliceVar(&s.except, "except", nil, "bake all but these; also skips post-processors by name")
	flags.StringSliceVar(&s.platforms, "platform", nil, "bake for these platforms, such as linux/arm64, in place of those in the template")
	flags.BoolVar(&s.allowHostExec, "allow-host-exec", false, "under CI: let shell-local and the like run commands on the host")
}

func (s *selection) addVars(flags *pflag.FlagSet) {
	flags.StringArrayVar(&s.vars, "var", nil, "set a variable, name=value (repeat)")
	flags.StringArrayVar(&s.varFiles, "var-file", nil, "read variables from a .json, .yaml or .hcl file (repeat; a later one wins)")
	flags.BoolVar(&s.warnUndeclared, "warn-on-undeclared-var", true, "")
	flags.MarkHidden("warn-on-undeclared-var") //nolint:errcheck // the flag is there
}

// registries is how to reach registries.
type registries struct {
	auth     []string
	ca       []string
	insecure []string
	mirrors  []string
	realms   []string
}

func (r *registries) add(flags *pflag.FlagSet) {
	flags.StringArrayVar(&r.auth, "registry-auth", nil, "sign in: HOST=USER:PASSWORD, or HOST=USER:@FILE or HOST=USER:$ENV to keep it off the command line (repeat)")
	flags.StringArrayVar(&r.ca, "registry-ca", nil, "PEM file of a certificate authority to trust (repeat)")
	flags.StringArrayVar(&r.insecure, "insecure-registry", nil, "HOST[:PORT] to speak plain http with (repeat; loopback needs none)")
	flags.StringArrayVar(&r.realms, "registry-realm", nil, "HOST=TOKENSERVER: another host that may see HOST's credentials (repeat)")
	flags.StringArrayVar(&r.mirrors, "registry-mirror", nil, "HOST=MIRROR: read HOST's images from MIRROR first (repeat)")
}

// client makes the registry client the flags ask for. Notes of it go to notify.
func (r registries) client(a *App, notify func(string), places registry.Places) (*registry.Client, error) {
	auth := map[string]registry.Auth{}
	for _, entry := range r.auth {
		host, credentials, err := parseAuth(a, entry)
		if err != nil {
			return nil, err
		}
		auth[host] = credentials
	}
	mirrors, err := hostPairs("registry-mirror", r.mirrors)
	if err != nil {
		return nil, err
	}
	realms, err := hostPairs("registry-realm", r.realms)
	if err != nil {
		return nil, err
	}
	var cas []string
	for _, file := range r.ca {
		cas = append(cas, a.path(file))
	}
	client, err := registry.New(registry.Options{
		Auth: auth, Mirrors: mirrors, Realms: realms, CAFiles: cas, Insecure: r.insecure,
		Getenv: a.Getenv, Version: a.Version, Notify: notify, Places: places,
	})
	if err != nil {
		return nil, usage("%w", err)
	}
	return client, nil
}

// hostPairs reads entries HOST=OTHER into the others of each host.
func hostPairs(flag string, entries []string) (map[string][]string, error) {
	pairs := map[string][]string{}
	for _, entry := range entries {
		host, other, ok := strings.Cut(entry, "=")
		if !ok || host == "" || other == "" {
			return nil, usage("--%s %q: want HOST=OTHER", flag, entry)
		}
		pairs[host] = append(pairs[host], other)
	}
	return pairs, nil
}

// parseAuth reads HOST=USER:PASSWORD; a password of the form @FILE or $NAME is
// read from there, since other processes see a command line. The problem never
// shows the entry.
func parseAuth(a *App, entry string) (host string, _ registry.Auth, err error) {
	host, credentials, ok := strings.Cut(entry, "=")
	user, password, both := strings.Cut(credentials, ":")
	if !ok || !both || host == "" || user == "" {
		return "", registry.Auth{}, usage("--registry-auth for %q: want HOST=USER:PASSWORD, HOST=USER:@FILE or HOST=USER:$ENV", host)
	}
	switch {
	case strings.HasPrefix(password, "@"):
		text, err := os.ReadFile(a.path(password[1:]))
		if err != nil {
			return "", registry.Auth{}, usage("--registry-auth for %s: %w", host, err)
		}
		password = strings.TrimSpace(string(text))
	case strings.HasPrefix(password, "$"):
		name := password[1:]
		if password = a.Getenv(name); password == "" {
			return "", registry.Auth{}, usage("--registry-auth for %s: %s is not set", host, name)
		}
	}
	return host, registry.Auth{Username: user, Password: secret.New(password)}, nil
}

// choice refuses a flag value that is not one of those allowed; "" among them
// is the default and goes unsaid.
func choice(flag, given string, allowed ...string) error {
	if slices.Contains(allowed, given) {
		return nil
	}
	words := slices.DeleteFunc(allowed, func(w string) bool { return w == "" })
	last := len(words) - 1
	return usage("-%s=%s: want %s or %s", flag, given, strings.Join(words[:last], ", "), words[last])
}
