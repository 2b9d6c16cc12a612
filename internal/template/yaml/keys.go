package yaml

import (
	"reflect"

	"github.com/imgbake/imgbake-action/internal/value"
)

// rootKeys are the keys of a template.
type rootKeys struct {
	Description string     `key:"description" doc:"What the template is for."`
	Variables   value.Node `key:"variables" doc:"Inputs: a mapping from names to their settings, or to their defaults."`
	Locals      value.Node `key:"locals" doc:"Named values made of variables, facts and other locals: a mapping from names to values. Read one as ${local.NAME}."`
	Cache       value.Node `key:"cache" doc:"Where steps are kept in registries, for machines that bake for the first time: from and to, or one place for both. Where --cache-from or --cache-to is given, that counts instead."`
	Images      value.Node `key:"images" doc:"The images to bake: a mapping from names to their settings." opt:"required"`
}

// variableKeys are the keys of a variable.
type variableKeys struct {
	Description string           `key:"description" doc:"What the variable is for."`
	Type        string           `key:"type" doc:"What values are taken. Anything, unless given." opt:"enum=string|number|bool|list|map"`
	Default     value.Node       `key:"default" doc:"The value when nothing else gives one. Without it the variable is required. May use functions, env() among them, and facts such as git.branch, but no other variable."`
	Required    bool             `key:"required" doc:"Say in so many words that a value must be given (true), or that none is needed (false)."`
	Sensitive   bool             `key:"sensitive" doc:"A secret: it is never shown, and never part of a plan, a layer or an image's configuration."`
	Env         []string         `key:"env" doc:"Environment variables that give the value; the first one that is set wins."`
	Choices     []string         `key:"choices" doc:"The values allowed."`
	Validation  []validationKeys `key:"validation" doc:"Rules that the value must keep."`
}

// validationKeys are the keys of a variable's validation.
type validationKeys struct {
	Condition value.Node `key:"condition" doc:"An expression over the variable that must be true, such as length(var.name) < 64." opt:"required"`
	Message   string     `key:"message" alias:"error_message" doc:"What to tell the user when it is not." opt:"required"`
}

// imageKeys are the keys of an image.
type imageKeys struct {
	Description  string     `key:"description" doc:"What the image is for."`
	From         value.Node `key:"from" doc:"Another image of the template to start from. Without it each builder has its own source."`
	Platforms    value.Node `key:"platforms" alias:"platform" doc:"The platforms to bake for, such as [linux/amd64, linux/arm64]: one bake each, published together as one index. With from, the parent's platforms unless given."`
	Builders     value.Node `key:"builders" alias:"builder" doc:"What to bake with: a name, a list of names, or a mapping from names to settings. A name is the builder's type unless its settings have a type. With from, the parent's builders unless given."`
	Provisioners value.Node `key:"provisioners" doc:"The steps, in order: a list of mappings with the type as the key, such as - shell: {inline: [apt-get update]}."`
	Cleanup      value.Node `key:"error_cleanup_provisioner" doc:"A provisioner that runs only when another one failed."`
	Posts        value.Node `key:"post_processors" doc:"What to do with the result: a list of names or of mappings with the type as the key. A list inside the list is a sequence, each taking what the one before it made."`
	Config       value.Node `key:"config" doc:"Changes to the image's configuration: entrypoint, cmd, env, user and so on."`
	Layers       value.Node `key:"layers" doc:"step: one layer per step that changed anything. squash: one layer per image."`
	Compression  value.Node `key:"compression" doc:"How the layers are compressed that the bake makes: gzip, or zstd, which is smaller and quicker. Docker reads zstd from version 23 on."`
	Keep         value.Node `key:"keep" doc:"Patterns of files to keep in the image that are left out otherwise, such as /var/cache/apt/**."`
	Publish      value.Node `key:"publish" doc:"Where to push the image: a list of repositories with tags."`
}

// stepKeys and postKeys are the common keys of components: they stand inside
// a component's settings or beside its type. Package plan reads them.
var (
	stepKeys = []string{"name", "only", "except", "override", "pause_before", "timeout", "max_retries", "cache", "cache_key", "env", "mounts"}
	postKeys = []string{"name", "only", "except", "keep_input_artifact"}
)

// Keys are the keys of the format, for its reference and schema.
type Keys struct{ Template, Variable, Image []value.Field }

// Reference returns the format's keys.
func Reference() Keys {
	return Keys{
		Template: value.Fields(reflect.TypeFor[rootKeys]()),
		Variable: value.Fields(reflect.TypeFor[variableKeys]()),
		Image:    value.Fields(reflect.TypeFor[imageKeys]()),
	}
}
