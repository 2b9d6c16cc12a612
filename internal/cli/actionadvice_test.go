package cli

import "testing"

func TestAdvise(t *testing.T) {
	for in, want := range map[string]string{
		"push ghcr.io/a/b: 401 (no credentials for ghcr.io: give --registry-auth ghcr.io=USER:PASSWORD or run docker login ghcr.io)": "push ghcr.io/a/b: 401 (no credentials for ghcr.io: give the job packages: write and leave the input github-token as it is, or write ghcr.io=USER:TOKEN into the input registry-auth)",
		"no credentials for r.example:5000: give --registry-auth r.example:5000=USER:PASSWORD or run docker login r.example:5000":    "no credentials for r.example:5000: write r.example:5000=USER:PASSWORD into the input registry-auth; a docker login of an earlier step is not seen in the action's container",
		"403 forbidden (the credentials do not allow this: check the permissions on ghcr.io/acme/web)":                               "403 forbidden (the credentials do not allow this: check the permissions on ghcr.io/acme/web; a push wants packages: write, and that the package ghcr.io/acme/web lets this repository write)",
		"the credentials do not allow this: check the permissions on quay.io/acme/web":                                               "the credentials do not allow this: check the permissions on quay.io/acme/web",
		"allow that for this registry with --insecure-registry r.example:5000":                                                       "allow that for this registry with r.example:5000 in the input insecure-registries",
		"allow it with --allow-host-exec if you trust the template":                                                                  "allow it with the input allow-host-exec: true if you trust the template",
		"nothing of the kind": "nothing of the kind",
	} {
		if got := advise(in); got != want {
			t.Errorf("%s\ngot  %s\nwant %s", in, got, want)
		}
	}
}
