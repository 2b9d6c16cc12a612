// Package dockerpush is the docker-push post-processor: it pushes an image
// under the names docker-tag gave it.
package dockerpush

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/diag"
	"github.com/imgbake/imgbake-action/internal/secret"
	"github.com/imgbake/imgbake-action/internal/value"
)

// Config is what the template says.
type Config struct {
	Login         bool   `key:"login" doc:"Sign in with login_username and login_password for this push. Without it, credentials come from --registry-auth, the docker config file and credential helpers."`
	LoginUsername string `key:"login_username" doc:"User to sign in as."`
	LoginPassword string `key:"login_password" doc:"Password or token; use a sensitive variable."`
	LoginServer   string `key:"login_server" doc:"Registry the credentials are for. Default: the registry that is pushed to."`
	Platform      string `key:"platform" doc:"Accepted for Packer templates: the image has one platform."`
	DockerPath    string `key:"docker_path" doc:"Accepted for Packer templates: the docker command is not used."`
	ECRLogin      bool   `key:"ecr_login" doc:"Not supported: use --registry-auth with the token that 'aws ecr get-login-password' prints, or the ecr-login credential helper."`

	AWSAccessKey         string `key:"aws_access_key" doc:"Not supported, see ecr_login."`
	AWSSecretKey         string `key:"aws_secret_key" doc:"Not supported, see ecr_login."`
	AWSToken             string `key:"aws_token" doc:"Not supported, see ecr_login."`
	AWSProfile           string `key:"aws_profile" doc:"Not supported, see ecr_login."`
	AWSForceUsePublicECR bool   `key:"aws_force_use_public_ecr" doc:"Not supported, see ecr_login."`
}

// Kind describes the post-processor.
func Kind() bake.Kind[bake.Post] {
	return bake.Define(bake.Spec[Config, bake.Post]{
		Name:    "docker-push",
		Doc:     "Pushes the image under every name it was given, by digest first and the tags last.",
		Example: "- [docker-tag: {repository: ghcr.io/acme/web, tags: [latest]}, docker-push]",
		Check:   check,
		New:     func(c Config) (bake.Post, error) { return pusher{c}, nil },
	})
}

func check(c Config, w value.Where) (problems diag.List) {
	if c.Login {
		for _, key := range []string{"login_username", "login_password"} {
			if !w.Given(key) {
				problems.Add(w.At(), "", "login needs %s", key)
			}
		}
	} else if w.Given("login_username") || w.Given("login_password") {
		problems.Warn(w.At("login_username"), "add login: true", "login_username and login_password are not used without login")
	}
	if c.LoginServer != "" && host(c.LoginServer) == "" {
		problems.Add(w.At("login_server"), "write its host, such as ghcr.io", "login_server %q is no registry", c.LoginServer)
	}
	for _, key := range []string{"ecr_login", "aws_access_key", "aws_secret_key", "aws_token", "aws_profile", "aws_force_use_public_ecr"} {
		if w.Given(key) {
			problems.Add(w.At(key), "use --registry-auth or the ecr-login credential helper", "%s is not supported", key)
		}
	}
	return problems
}

type pusher struct{ Config }

// Process pushes every image under its names. It is kept.
func (p pusher) Process(ctx context.Context, env bake.PostEnv, in []bake.Artifact) ([]bake.Artifact, bool, error) {
	images, err := bake.Images(in, "docker-push")
	if err != nil {
		return nil, false, err
	}
	for _, a := range images {
		if len(a.Refs) == 0 {
			return nil, false, errors.New("the image has no name to push under: put docker-tag before docker-push in the same sequence")
		}
		refs := p.withLogin(a.Refs)
		if p.Login && !slices.ContainsFunc(refs, func(r bake.Ref) bool { return r.Auth.Username != "" }) {
			env.Sink.Emit(bake.Event{Type: bake.Warned, Text: fmt.Sprintf("login_server %s is the registry of none of the image's names: its credentials are not used", p.LoginServer)})
		}
		if _, err := env.Publisher.Publish(ctx, a, refs); err != nil {
			return nil, false, err
		}
	}
	return in, true, nil
}

// withLogin adds the template's credentials to the references they are for.
func (p pusher) withLogin(refs []bake.Ref) []bake.Ref {
	if !p.Login {
		return refs
	}
	server := host(p.LoginServer)
	out := make([]bake.Ref, len(refs))
	for i, ref := range refs {
		if server == "" || ref.Context().RegistryStr() == server {
			ref.Auth = bake.Credentials{Username: p.LoginUsername, Password: secret.New(p.LoginPassword)}
		}
		out[i] = ref
	}
	return out
}

// host is the registry's name as references have it. Packer's templates often
// write it as a URL; what is no registry's name gives "".
func host(server string) string {
	if _, rest, ok := strings.Cut(server, "://"); ok {
		server = rest
	}
	server, _, _ = strings.Cut(server, "/")
	registry, err := name.NewRegistry(server)
	if err != nil || server == "" {
		return ""
	}
	return registry.RegistryStr()
}
