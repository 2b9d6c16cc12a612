package github

import (
	"context"
	"fmt"
	"net/url"
	"time"

	gh "github.com/google/go-github/v60/github"
)

// PackageVersion is one manifest in a container package.
type PackageVersion struct {
	ID      int64
	Digest  string
	Tags    []string
	Updated time.Time
}

// Packages reads and deletes the versions of the packages of one owner.
type Packages struct {
	client *Client
	owner  string
	org    bool
}

// Packages asks what the owner is: an organization's packages lie elsewhere
// than a person's.
func (c *Client) Packages(ctx context.Context, owner string) (*Packages, error) {
	if !plainName(owner) {
		return nil, fmt.Errorf("owner %q of packages: want one name", owner)
	}
	u, _, err := c.rest.Users.Get(ctx, owner)
	if err != nil {
		return nil, call{"owner " + owner + " of packages", "packages: read"}.fail(err)
	}
	return &Packages{client: c, owner: owner, org: u.GetType() == "Organization"}, nil
}

// Versions lists the versions of a container package with their tags.
func (p *Packages) Versions(ctx context.Context, name string) ([]PackageVersion, error) {
	call := call{fmt.Sprintf("versions of package %s/%s", p.owner, name), "packages: read"}
	got, err := list(call, func(o gh.ListOptions) ([]*gh.PackageVersion, *gh.Response, error) {
		options := &gh.PackageListOptions{ListOptions: o}
		if p.org {
			return p.client.rest.Organizations.PackageGetAllVersions(ctx, p.owner, "container", name, options)
		}
		// go-github escapes the name for organizations only
		return p.client.rest.Users.PackageGetAllVersions(ctx, p.owner, "container", url.PathEscape(name), options)
	})
	var out []PackageVersion
	for _, v := range got {
		out = append(out, PackageVersion{
			ID: v.GetID(), Digest: v.GetName(), Tags: v.GetMetadata().GetContainer().Tags, Updated: v.GetUpdatedAt().Time,
		})
	}
	return out, err
}

// Delete deletes one version, and all the tags it has. ErrNotFound means that it
// is gone, or that the token may not delete it: Versions tells which.
func (p *Packages) Delete(ctx context.Context, name string, id int64) error {
	call := call{fmt.Sprintf("deletion of version %d of package %s/%s", id, p.owner, name),
		"packages: write"}
	var err error
	if p.org {
		_, err = p.client.rest.Organizations.PackageDeleteVersion(ctx, p.owner, "container", name, id)
	} else {
		_, err = p.client.rest.Users.PackageDeleteVersion(ctx, p.owner, "container", url.PathEscape(name), id)
	}
	return call.fail(err)
}
