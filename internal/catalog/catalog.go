// Package catalog lists every component type, one line each. It is the only
// place that knows them all.
package catalog

import (
	"time"

	"github.com/imgbake/imgbake-action/internal/bake"
	"github.com/imgbake/imgbake-action/internal/builder/docker"
	"github.com/imgbake/imgbake-action/internal/builder/either"
	filebuilder "github.com/imgbake/imgbake-action/internal/builder/file"
	"github.com/imgbake/imgbake-action/internal/builder/null"
	"github.com/imgbake/imgbake-action/internal/builder/oci"
	"github.com/imgbake/imgbake-action/internal/post/artifice"
	"github.com/imgbake/imgbake-action/internal/post/checksum"
	"github.com/imgbake/imgbake-action/internal/post/compress"
	"github.com/imgbake/imgbake-action/internal/post/dockerimport"
	"github.com/imgbake/imgbake-action/internal/post/dockerpush"
	"github.com/imgbake/imgbake-action/internal/post/dockersave"
	"github.com/imgbake/imgbake-action/internal/post/dockertag"
	"github.com/imgbake/imgbake-action/internal/post/manifest"
	postshelllocal "github.com/imgbake/imgbake-action/internal/post/shelllocal"
	"github.com/imgbake/imgbake-action/internal/provisioner/breakpoint"
	"github.com/imgbake/imgbake-action/internal/provisioner/file"
	"github.com/imgbake/imgbake-action/internal/provisioner/shell"
	"github.com/imgbake/imgbake-action/internal/provisioner/shelllocal"
	"github.com/imgbake/imgbake-action/internal/provisioner/sleep"
	"github.com/imgbake/imgbake-action/internal/registry"
	"github.com/imgbake/imgbake-action/internal/store"
)

// All makes every component type. The store and the registry client may be nil
// where nothing is baked. choice says where docker
// builders are carried out.
func All(layers *store.Store, registries *registry.Client, getenv func(string) string, now func() time.Time, choice bake.Choice) bake.Catalog {
	daemon := docker.New(docker.Deps{Store: layers, Registry: registries, Getenv: getenv})
	alone := oci.New(oci.Deps{Store: layers, Registry: registries, SquashOwners: choice.SquashOwners, Isolation: choice.Isolation})
	return bake.Catalog{
		Builders: []bake.Kind[bake.Builder]{
			either.Kind(daemon.Kind(), alone.Kind(), choice.Engine, alone.OnlyChroot()),
			alone.Kind(),
			filebuilder.Kind(),
			null.Kind(),
		},
		Provisioners: []bake.Kind[bake.Provisioner]{
			shell.Kind(),
			file.Kind(),
			shelllocal.Kind(),
			breakpoint.Kind(),
			sleep.Kind(),
		},
		Posts: []bake.Kind[bake.Post]{
			dockertag.Kind(),
			dockerpush.Kind(),
			dockersave.Kind(),
			dockerimport.Kind(layers),
			manifest.Kind(now),
			checksum.Kind(),
			compress.Kind(),
			artifice.Kind(),
			postshelllocal.Kind(),
		},
		Loader: daemon,
		Engine: daemon.Describe,
	}
}
