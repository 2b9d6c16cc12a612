package registry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/publicsuffix"
)

// fence decides which addresses may be dialled on behalf of a registry: a
// host that is not the registry must not lie deeper inside than the registry
// does. A public registry can so not send us to this machine, the private
// network or a cloud's metadata service, whatever names it uses.
type fence struct {
	registry string   // its host name
	proxies  []string // host:port, chosen by the user
	lookup   func(context.Context, string) ([]netip.Addr, error)
	dial     func(ctx context.Context, network, addr string) (net.Conn, error)

	mu    sync.Mutex
	known bool
	depth depth // of the registry's own addresses
}

// depth is how far inside an address lies.
type depth int

const (
	public depth = iota
	private
	loopback
	linkLocal // and metadata services, and what is no host's address
)

var depthNames = [...]string{"public", "private", "loopback", "link-local or metadata"}

// Networks whose depth netip does not tell.
var (
	shared    = netip.MustParsePrefix("100.64.0.0/10") // carrier-grade NAT
	nat64     = netip.MustParsePrefix("64:ff9b::/96")
	thisNet   = netip.MustParsePrefix("0.0.0.0/8")
	metadatas = []netip.Addr{
		netip.MustParseAddr("fd00:ec2::254"),
		netip.MustParseAddr("100.100.100.200"),
		netip.MustParseAddr("168.63.129.16"),
	}
)

func depthOf(ip netip.Addr) depth {
	ip = ip.Unmap().WithZone("")
	if nat64.Contains(ip) {
		b := ip.As16()
		ip = netip.AddrFrom4([4]byte(b[12:]))
	}
	switch {
	case ip.IsLinkLocalUnicast(), ip.IsMulticast(), thisNet.Contains(ip), ip.IsUnspecified(), slices.Contains(metadatas, ip):
		return linkLocal
	case ip.IsLoopback():
		return loopback
	case ip.IsPrivate(), shared.Contains(ip):
		return private
	}
	return public
}

// check refuses an address of a host that is not the registry.
func (f *fence) check(ctx context.Context, host string, ip netip.Addr) error {
	if depthOf(ip) <= f.registryDepth(ctx) {
		return nil
	}
	return &RefusedError{Text: fmt.Sprintf("the registry points to %s at the %s address %s", host, depthNames[depthOf(ip)], ip)}
}

func (f *fence) registryDepth(ctx context.Context) depth {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.known {
		return f.depth
	}
	addrs, err := f.resolve(ctx, f.registry)
	if err != nil {
		return public // reached by a proxy, or gone: trust nothing more
	}
	for _, ip := range addrs {
		f.depth = max(f.depth, depthOf(ip))
	}
	f.known = true
	return f.depth
}

// resolve gives the addresses of a name, or of an address the address.
func (f *fence) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip}, nil
	}
	return f.lookup(ctx, host)
}

// dialContext resolves, checks and dials the very address it checked, so that
// a name cannot change in between.
func (f *fence) dialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	ips, err := f.resolve(ctx, host)
	if err != nil {
		return nil, err
	}
	free := strings.EqualFold(host, f.registry) || slices.Contains(f.proxies, addr)
	var failed []error
	for i, ip := range ips {
		if !free {
			if err := f.check(ctx, host, ip); err != nil {
				return nil, err
			}
		}
		conn, err := f.dialOne(ctx, network, net.JoinHostPort(ip.Unmap().String(), port), i == len(ips)-1)
		if err == nil {
			return conn, nil
		}
		failed = append(failed, err)
	}
	return nil, errors.Join(failed...)
}

// dialOne does not let one dead address of several use up all the time.
func (f *fence) dialOne(ctx context.Context, network, addr string, last bool) (net.Conn, error) {
	if !last {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
	}
	return f.dial(ctx, network, addr)
}

// isLoopbackHost knows this machine by name or address.
func isLoopbackHost(host string) bool {
	if strings.EqualFold(host, "localhost") || strings.HasSuffix(strings.ToLower(host), ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && ip.Unmap().IsLoopback()
}

// hostname takes the port off a host.
func hostname(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		return h
	}
	return strings.Trim(host, "[]")
}

func withPort(host, scheme string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return strings.ToLower(host)
	}
	port := "443"
	if scheme == "http" {
		port = "80"
	}
	return strings.ToLower(net.JoinHostPort(strings.Trim(host, "[]"), port))
}

// sameSite tells whether two hosts belong to one owner: they are equal, or
// share their registrable domain.
func sameSite(a, b string) bool {
	a, b = strings.ToLower(strings.TrimSuffix(a, ".")), strings.ToLower(strings.TrimSuffix(b, "."))
	if a == b {
		return true
	}
	domain := registrable(a)
	return domain != "" && domain == registrable(b)
}

// registrable is the part of a host name that is sold to one customer, or
// empty where that cannot be told: a wrong empty costs an option, a wrong match
// a password.
func registrable(host string) string {
	if _, err := netip.ParseAddr(host); err == nil {
		return ""
	}
	suffix, listed := publicsuffix.PublicSuffix(host)
	if !listed && !strings.Contains(suffix, ".") { // no public domain, such as .local or .internal
		return ""
	}
	for _, many := range manyOwners {
		if host == many || strings.HasSuffix(host, "."+many) {
			return ""
		}
	}
	domain, err := publicsuffix.EffectiveTLDPlusOne(host)
	if err != nil {
		return ""
	}
	return domain
}

// manyOwners are domains below which anybody can rent a name and which the
// public suffix list does not have, or has in part.
var manyOwners = []string{
	"aliyuncs.com", "amazonaws.com", "amazonaws.com.cn", "azure.com", "azurecontainerapps.io", "azurecr.cn", "azurecr.io",
	"github.dev", "gitpod.io", "googleusercontent.com", "jfrog.io", "nip.io", "oraclecloud.com", "pkg.dev", "railway.app",
	"sslip.io", "surge.sh", "windows.net", "xip.io",
}
