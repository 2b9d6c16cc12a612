package registry

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	rt "github.com/imgbake/imgbake-action/internal/registry/registrytest"
)

func withAuth(host, user, pass string) func(*Options) {
	return func(o *Options) { o.Auth = map[string]Auth{host: {Username: user, Password: password(pass)}} }
}

func TestBasicAuth(t *testing.T) {
	f := newFixture(t)
	f.On(rt.Any, -1, rt.Basic("u", "geheim"))
	img, tag := randomImage(t, 2<<20, 1), f.repo(t, "a").Tag("1")
	f.c = f.client(t, withAuth(f.Host, "u", "geheim"))
	f.must(t, img, tag)

	_, err := f.client(t, withAuth(f.Host, "u", "wrong-one")).Head(t.Context(), tag, Auth{})
	wantError(t, err, "401", `does not accept the credentials of user "u"`)
	if strings.Contains(err.Error(), "wrong-one") {
		t.Errorf("%v shows the password", err)
	}
	// Credentials given for the call win.
	if _, err := f.client(t, withAuth(f.Host, "u", "wrong-one")).Head(t.Context(), tag, Auth{Username: "u", Password: password("geheim")}); err != nil {
		t.Error(err)
	}
}

func TestTokenAuth(t *testing.T) {
	f := newFixture(t)
	auth := rt.New(t) // localhost on another port: the same host
	f.On(rt.Any, -1, rt.Bearer(auth.URL+"/token", "t0ken"))
	auth.On(rt.Any, -1, rt.Token("u", "geheim", "t0ken"))
	f.c = f.client(t, withAuth(f.Host, "u", "geheim"))
	f.must(t, randomImage(t, 100, 1), f.repo(t, "a").Tag("1"))
	got := auth.Requests()
	if len(got) != 1 || !strings.Contains(got[0].Query, "scope=repository%3Aa%3Apush%2Cpull") {
		t.Errorf("token requests %v, want one for push and pull", got)
	}
	for _, r := range f.Requests() {
		if strings.HasPrefix(r.Header.Get("Authorization"), "Basic") {
			t.Errorf("%s got the password", r)
		}
	}
}

// TestTokenExpires in the middle of uploads: the session gets another, and
// the body is sent again from its start.
func TestTokenExpires(t *testing.T) {
	f := newFixture(t)
	f.On(rt.Is("GET", "/token"), -1, rt.Token("", "", "t0ken"))
	large := func(r *http.Request) bool { return rt.Upload(r) && r.ContentLength > 1<<20 }
	f.On(large, 1, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="`+f.URL+`/token",service="test"`)
		w.WriteHeader(http.StatusUnauthorized)
	})
	f.On(rt.Any, -1, rt.Bearer(f.URL+"/token", "t0ken"))
	f.must(t, randomImage(t, 3<<20, 1), f.repo(t, "a").Tag("1"))
	var received int64
	for _, r := range f.Requests() {
		received += r.Received
	}
	if received > 4<<20 {
		t.Errorf("%d bytes received: the body was sent before the answer was known", received)
	}
	if len(f.sleeps) > 0 {
		t.Errorf("slept: %q", f.notes)
	}
}

// world is a network of names: every name leads to the one test server, or to
// the address that is listed.
type world map[string]string

func (w world) options(f *fixture) func(*Options) {
	return func(o *Options) {
		o.Lookup = func(_ context.Context, host string) ([]netip.Addr, error) {
			if ip, ok := w[host]; ok {
				return []netip.Addr{netip.MustParseAddr(ip)}, nil
			}
			return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
		}
		o.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, f.HTTP.Listener.Addr().String())
		}
		for host := range w {
			o.Insecure = append(o.Insecure, host+":80", host)
		}
		o.Retries = -1
	}
}

// TestRealms: the password goes to the registry's own token servers only.
func TestRealms(t *testing.T) {
	const addr = "203.0.113.1"
	for _, tc := range []struct {
		registry, realm string
		trusted         []string
		sent            bool
	}{
		{"reg.example.com", "reg.example.com", nil, true},
		{"reg.example.com", "auth.example.com", nil, true},
		{"reg.example.com", "example.com", nil, true},
		{"reg.example.com", "evil.org", nil, false},
		{"reg.example.com", "evilexample.com", nil, false},
		{"reg.example.com", "reg.example.com.evil.org", nil, false},
		{"reg.example.com", "auth.example.org", []string{"auth.example.org"}, true},
		{"a.example.co.uk", "b.example.co.uk", nil, true},
		{"a.co.uk", "b.co.uk", nil, false},
		{"one.azurecr.io", "two.azurecr.io", nil, false},
		{"docker.io", "auth.docker.io", nil, true},
		{"docker.io", "auth.docker.io.evil.org", nil, false},
	} {
		t.Run(tc.registry+" "+tc.realm, func(t *testing.T) {
			f := newFixture(t)
			hosts := world{tc.registry: addr, tc.realm: addr, "index.docker.io": addr}
			f.On(rt.Is("GET", "/token"), -1, rt.Token("u", "geheim", "t0ken"))
			f.On(rt.Any, -1, rt.Bearer("http://"+tc.realm+"/token", "t0ken"))
			c := f.client(t, hosts.options(f), withAuth(tc.registry, "u", "geheim"), func(o *Options) {
				o.Realms = map[string][]string{tc.registry: tc.trusted}
			})
			ref, err := name.ParseReference(tc.registry + "/acme/web:1")
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Head(t.Context(), ref, Auth{})
			sent := false
			for _, r := range f.Requests() {
				sent = sent || r.Path == "/token" && r.Header.Get("Authorization") != ""
			}
			if sent != tc.sent {
				t.Errorf("password sent: %v, want %v (%v)", sent, tc.sent, err)
			}
			if !tc.sent {
				wantError(t, err, "refused: the registry wants its credentials sent to "+tc.realm, "--registry-realm")
			}
		})
	}
}

// TestIdentityToken has its secret in the body of the token request.
func TestIdentityToken(t *testing.T) {
	f := newFixture(t)
	hosts := world{"reg.example.com": "203.0.113.1", "evil.org": "203.0.113.2"}
	f.On(rt.Any, -1, rt.Bearer("http://evil.org/token", "t0ken"))
	c := f.client(t, hosts.options(f), func(o *Options) {
		o.Auth = map[string]Auth{"reg.example.com": {Token: password("geheim")}}
	})
	ref, _ := name.ParseReference("reg.example.com/a:1")
	_, err := c.Head(t.Context(), ref, Auth{})
	wantError(t, err, "refused: the registry wants its credentials sent to evil.org")
	for _, r := range f.Requests() {
		if r.Path == "/token" {
			t.Errorf("%s with %d bytes reached the token server", r, r.Received)
		}
	}
}

// TestAnonymousRealm may be anywhere public: there is nothing to lose.
func TestAnonymousRealm(t *testing.T) {
	f := newFixture(t)
	hosts := world{"reg.example.com": "203.0.113.1", "tokens.example.org": "203.0.113.2"}
	f.On(rt.Is("GET", "/token"), -1, rt.Token("", "", "t0ken"))
	f.On(rt.Any, -1, rt.Bearer("http://tokens.example.org/token", "t0ken"))
	ref, _ := name.ParseReference("reg.example.com/a:1")
	_, err := f.client(t, hosts.options(f)).Head(t.Context(), ref, Auth{})
	wantError(t, err, "404")
}

// TestAddresses: a registry cannot send us deeper inside than it is itself.
func TestAddresses(t *testing.T) {
	for _, tc := range []struct {
		registry, target string
		want             string
	}{
		{"203.0.113.1", "203.0.113.9", ""},
		{"203.0.113.1", "10.0.0.1", "private address 10.0.0.1"},
		{"203.0.113.1", "127.0.0.1", "loopback address 127.0.0.1"},
		{"203.0.113.1", "169.254.169.254", "link-local or metadata address 169.254.169.254"},
		{"203.0.113.1", "::ffff:169.254.169.254", "metadata address"},
		{"203.0.113.1", "64:ff9b::a9fe:a9fe", "metadata address"},
		{"203.0.113.1", "fd00:ec2::254", "metadata address"},
		{"203.0.113.1", "0.0.0.0", "metadata address"},
		{"203.0.113.1", "100.64.1.1", "private address"},
		{"10.0.0.1", "10.0.0.2", ""},
		{"10.0.0.1", "127.0.0.1", "loopback address"},
		{"127.0.0.1", "169.254.169.254", "metadata address"},
		{"169.254.1.1", "169.254.1.2", ""},
	} {
		t.Run(tc.registry+" to "+tc.target, func(t *testing.T) {
			f := newFixture(t)
			img, tag := randomImage(t, 100, 1), f.repo(t, "a").Tag("1")
			f.must(t, img, tag)
			hosts := world{"reg.example.com": tc.registry, "storage.example.net": tc.target}
			f.On(func(r *http.Request) bool { return rt.Blob(r) && r.Host == "reg.example.com" }, -1, rt.Redirect("http://storage.example.net"))
			ref, _ := name.ParseReference("reg.example.com/a:1")
			c := f.client(t, hosts.options(f), withAuth("reg.example.com", "u", "geheim"))
			f.Requests()
			_, err := f.pull(t, c, ref)
			if tc.want == "" && err != nil || tc.want != "" && err == nil {
				t.Fatalf("error %v, want %q", err, tc.want)
			}
			if tc.want != "" {
				wantError(t, err, tc.want, "storage.example.net")
			}
		})
	}
}

// TestRedirectsDropCredentials: storage behind a registry gets none.
func TestRedirectsDropCredentials(t *testing.T) {
	f := newFixture(t)
	hosts := world{"reg.example.com": "203.0.113.1", "cdn.reg.example.com": "203.0.113.2"}
	tag := f.repo(t, "a").Tag("1")
	f.must(t, randomImage(t, 100, 1), tag)
	var leaked []string
	f.On(func(r *http.Request) bool {
		if r.Host == "cdn.reg.example.com" && r.Header.Get("Authorization") != "" {
			leaked = append(leaked, r.URL.Path)
		}
		return false
	}, -1, nil)
	f.On(func(r *http.Request) bool { return rt.Blob(r) && r.Host == "reg.example.com" }, -1, rt.Redirect("http://cdn.reg.example.com"))
	f.On(func(r *http.Request) bool { return r.Host == "reg.example.com" }, -1, rt.Basic("u", "geheim"))
	ref, _ := name.ParseReference("reg.example.com/a:1")
	if _, err := f.pull(t, f.client(t, hosts.options(f), withAuth("reg.example.com", "u", "geheim")), ref); err != nil {
		t.Fatal(err)
	}
	if len(leaked) > 0 {
		t.Errorf("credentials sent to the storage for %v", leaked)
	}
}

func TestPlainHTTP(t *testing.T) {
	f := newFixture(t)
	hosts := world{"reg.example.com": "203.0.113.1", "10.1.2.3": "10.1.2.3"}
	ref, _ := name.ParseReference("reg.example.com/a:1")
	notListed := func(o *Options) { hosts.options(f)(o); o.Insecure = nil }
	_, err := f.client(t, notListed).Head(t.Context(), ref, Auth{})
	wantError(t, err, "speaks http, not https", "--insecure-registry reg.example.com")
	private, _ := name.ParseReference("10.1.2.3/a:1") // go-containerregistry would fall back to http
	_, err = f.client(t, notListed).Head(t.Context(), private, Auth{})
	wantError(t, err, "--insecure-registry 10.1.2.3")
	if got := f.Requests(); len(got) > 0 {
		t.Errorf("requests over plain http: %v", got)
	}
	_, err = f.client(t, hosts.options(f)).Head(t.Context(), ref, Auth{})
	wantError(t, err, "404")
}

func TestTLS(t *testing.T) {
	f := &fixture{Server: rt.NewTLS(t)}
	tag := f.repo(t, "a").Tag("1")
	_, err := f.client(t).Head(t.Context(), tag, Auth{})
	wantError(t, err, "certificate of "+f.Host, "--registry-ca")

	// The test server's certificate is for example.com and loopback addresses.
	_, port, _ := net.SplitHostPort(f.Host)
	ref, _ := name.ParseReference("127.0.0.1:" + port + "/a:1")
	_, err = f.client(t, func(o *Options) { o.CAFiles = []string{caFile(t, f)} }).Head(t.Context(), ref, Auth{})
	wantError(t, err, "404")

	_, err = f.client(t, func(o *Options) { o.Insecure = []string{f.Host} }).Head(t.Context(), tag, Auth{})
	wantError(t, err, "404")
}

func caFile(t *testing.T, f *fixture) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pemOf(f.HTTP.Certificate()), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestSameSite(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want bool
	}{
		{"localhost", "localhost", true}, {"ghcr.io", "ghcr.io", true}, {"registry.gitlab.com", "gitlab.com", true},
		{"10.0.0.1", "10.0.0.2", false}, {"reg", "auth", false}, {"a.local", "b.local", false}, {"x.github.io", "y.github.io", false},
		{"Reg.Example.COM", "auth.example.com.", true}, {"a.b.example.com", "c.example.com", true}, {"com", "x.com", false},
		{"a.co.uk", "b.co.uk", false}, {"x.a.co.uk", "a.co.uk", true}, {"a.kawasaki.jp", "b.kawasaki.jp", false}, {"a.azurecr.io", "b.azurecr.io", false},
		{"europe-docker.pkg.dev", "x.pkg.dev", false}, {"a.svc.cluster.local", "b.svc.cluster.local", false},
		{"1.dkr.ecr.eu-west-1.amazonaws.com", "2.dkr.ecr.eu-west-1.amazonaws.com", false},
	} {
		if got := sameSite(tc.a, tc.b); got != tc.want {
			t.Errorf("sameSite(%q, %q) = %v", tc.a, tc.b, got)
		}
	}
}

func TestProxies(t *testing.T) {
	p, err := proxiesFrom(env("HTTP_PROXY", "proxy.example:3128", "https_proxy", "http://secure.example", "NO_PROXY", "internal.example, .corp,10.0.0.0/8,port.example:5000,2001:db8::1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ url, want string }{
		{"https://ghcr.io/v2/", "http://secure.example"},
		{"http://ghcr.io/v2/", "http://proxy.example:3128"},
		{"https://internal.example/", ""}, {"https://a.internal.example/", ""}, {"https://notinternal.example/", "http://secure.example"},
		{"https://x.corp/", ""}, {"https://10.9.8.7/", ""}, {"https://11.9.8.7/", "http://secure.example"},
		{"https://port.example:5000/", ""}, {"https://port.example/", "http://secure.example"},
		{"http://localhost:5000/", ""}, {"http://127.0.0.1/", ""}, {"http://[::1]:5000/", ""}, {"https://[2001:db8::1]/", ""},
	} {
		got, err := p.forRequest(&http.Request{URL: mustURL(t, tc.url)})
		if err != nil {
			t.Fatal(err)
		}
		if s := ""; got != nil && got.String() != tc.want || got == nil && tc.want != s {
			t.Errorf("proxy for %s: %v, want %q", tc.url, got, tc.want)
		}
	}
	if diff := cmp.Diff([]string{"proxy.example:3128", "secure.example:80"}, p.addrs()); diff != "" {
		t.Error(diff)
	}
}

// TestThroughProxy: the proxy may be private although the registry is not.
func TestThroughProxy(t *testing.T) {
	f := newFixture(t)
	var asked string
	f.On(func(r *http.Request) bool { asked = r.Host; return false }, -1, nil)
	hosts := world{"proxy.corp": "10.0.0.8"}
	c := f.client(t, hosts.options(f), func(o *Options) {
		o.Getenv = env("HTTP_PROXY", "http://proxy.corp:3128", "HTTPS_PROXY", "http://proxy.corp:3128")
		o.Insecure = []string{"reg.example.com"}
	})
	ref, _ := name.ParseReference("reg.example.com/a:1")
	if _, _, err := c.Image(t.Context(), ref, v1.Platform{}, Auth{}); err == nil {
		t.Error("no error")
	}
	if asked != "reg.example.com" {
		t.Errorf("the proxy was asked for %q", asked)
	}
}
