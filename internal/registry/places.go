package registry

import (
	"slices"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Places remembers in which repositories of a registry a blob was seen, so
// that it is mounted from there instead of sent. All of it are hints: a wrong
// one costs a mount that the registry refuses.
type Places interface {
	Places(registry string, blob v1.Hash) (repositories []string) // the latest first
	AddPlace(registry string, blob v1.Hash, repository string)
}

// memory is Places for one process.
type memory struct {
	mu   sync.Mutex
	last map[string]string // repository by registry and blob
}

// Places is where the blob was seen last.
func (m *memory) Places(registry string, blob v1.Hash) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if repository, ok := m.last[registry+"/"+blob.String()]; ok {
		return []string{repository}
	}
	return nil
}

// AddPlace remembers a repository instead of the one before.
func (m *memory) AddPlace(registry string, blob v1.Hash, repository string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last[registry+"/"+blob.String()] = repository
}

// seen remembers that a repository has an image's layers.
func (c *Client) seen(repo name.Repository, img v1.Image) error {
	m, err := img.Manifest()
	if err != nil {
		return err
	}
	for _, l := range m.Layers {
		c.opts.Places.AddPlace(repo.RegistryStr(), l.Digest, repo.RepositoryStr())
	}
	return nil
}

// maxSources is from how many repositories one push mounts: each is a scope
// to be asked for.
const maxSources = 8

// findSources settles from where each blob may be mounted, and returns the
// scopes that takes. from is for blobs of which nothing better is known.
func (p *push) findSources(from []name.Repository) (scopes []string) {
	from = slices.DeleteFunc(slices.Clone(from), func(r name.Repository) bool { return !p.canMount(r) })
	for h, b := range p.blobs {
		known, ok := p.knownSource(h)
		switch {
		case p.canMount(b.from):
		case ok:
			b.from = known
		case len(from) > 0:
			b.from = from[0]
		default:
			b.from = name.Repository{}
		}
		if b.from.RepositoryStr() != "" {
			scope := b.from.Scope(transport.PullScope)
			switch {
			case slices.Contains(scopes, scope):
			case len(scopes) < maxSources:
				scopes = append(scopes, scope)
			default:
				b.from = name.Repository{}
			}
		}
		p.blobs[h] = b
	}
	slices.Sort(scopes)
	return scopes
}

// canMount tells whether a repository is another one of the same registry.
func (p *push) canMount(r name.Repository) bool {
	return r.RegistryStr() == p.repo.RegistryStr() && r.RepositoryStr() != p.repo.RepositoryStr() && r.RepositoryStr() != ""
}

// knownSource is another repository that has been seen to have a blob.
func (p *push) knownSource(h v1.Hash) (name.Repository, bool) {
	for _, path := range p.c.opts.Places.Places(p.repo.RegistryStr(), h) {
		if repo, err := name.NewRepository(p.repo.RegistryStr() + "/" + path); err == nil && p.canMount(repo) {
			return repo, true
		}
	}
	return name.Repository{}, false
}

// note counts a blob that the repository has now and remembers it.
func (p *push) note(h v1.Hash, counter *int64, size int64) {
	p.mu.Lock()
	*counter += size
	p.mu.Unlock()
	p.c.opts.Places.AddPlace(p.repo.RegistryStr(), h, p.repo.RepositoryStr())
}
