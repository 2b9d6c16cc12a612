package registry

import (
	"cmp"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
)

// proxies are those of the environment, by the usual names in both cases.
type proxies struct {
	http, https *url.URL
	exclude     []string // NO_PROXY, in lower case
}

func proxiesFrom(getenv func(string) string) (proxies, error) {
	get := func(name string) string {
		return cmp.Or(getenv(strings.ToLower(name)), getenv(name))
	}
	var p proxies
	var err error
	if p.http, err = parseProxy("HTTP_PROXY", get("HTTP_PROXY")); err != nil {
		return p, err
	}
	if p.https, err = parseProxy("HTTPS_PROXY", get("HTTPS_PROXY")); err != nil {
		return p, err
	}
	for _, entry := range strings.FieldsFunc(get("NO_PROXY"), func(r rune) bool { return r == ',' || r == ' ' }) {
		p.exclude = append(p.exclude, strings.ToLower(entry))
	}
	return p, nil
}

// parseProxy does not quote the value in errors: it may hold a password.
func parseProxy(name, value string) (*url.URL, error) {
	if value == "" {
		return nil, nil
	}
	if !strings.Contains(value, "://") {
		value = "http://" + value
	}
	u, err := url.Parse(value)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("environment variable %s is not a URL", name)
	}
	return u, nil
}

// forRequest has the signature of http.Transport.Proxy.
func (p proxies) forRequest(req *http.Request) (*url.URL, error) {
	proxy := p.http
	if req.URL.Scheme == "https" {
		proxy = p.https
	}
	if proxy == nil || p.excluded(req.URL) {
		return nil, nil
	}
	return proxy, nil
}

// excluded tells whether the host is this machine or in NO_PROXY: a name, a
// domain with or without a leading dot, an address, a network, each
// optionally with a port, or * for all.
func (p proxies) excluded(u *url.URL) bool {
	host := strings.ToLower(u.Hostname())
	if isLoopbackHost(host) {
		return true
	}
	ip, _ := netip.ParseAddr(host)
	for _, entry := range p.exclude {
		if h, port, err := net.SplitHostPort(entry); err == nil {
			if port != portOf(u) {
				continue
			}
			entry = h
		}
		if network, err := netip.ParsePrefix(entry); err == nil {
			if ip.IsValid() && network.Contains(ip.Unmap()) {
				return true
			}
			continue
		}
		domain := strings.TrimPrefix(strings.TrimPrefix(entry, "*"), ".")
		if entry == "*" || host == domain || strings.HasSuffix(host, "."+domain) && domain != "" {
			return true
		}
	}
	return false
}

// addrs are the host:port of the proxies themselves.
func (p proxies) addrs() []string {
	var all []string
	for _, u := range []*url.URL{p.http, p.https} {
		if u != nil {
			all = append(all, net.JoinHostPort(u.Hostname(), portOf(u)))
		}
	}
	return all
}

func portOf(u *url.URL) string {
	if port := u.Port(); port != "" {
		return port
	}
	switch u.Scheme {
	case "https":
		return "443"
	case "socks5", "socks5h":
		return "1080"
	}
	return "80"
}
