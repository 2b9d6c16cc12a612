//go:build engine

package e2e_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestEndpoints bakes on a real engine by each way that leads there: TLS and
// ssh, from the environment and from docker contexts. What does not lead there
// says why.
func TestEndpoints(t *testing.T) {
	needTools(t, "docker", "ssh", "ssh-keygen", "sshd")
	n := loneNetwork(t)
	dir := t.TempDir()
	ca, stranger := newAuthority(t), newAuthority(t)
	ca.issue(t, filepath.Join(dir, "server"), "localhost", ca)
	ca.issue(t, filepath.Join(dir, "client"), "client", ca)
	ca.issue(t, filepath.Join(dir, "strange"), "client", stranger)
	if err := copyFile(filepath.Join(mkdir(t, dir, "half"), "ca.pem"), filepath.Join(dir, "server", "ca.pem")); err != nil {
		t.Fatal(err)
	}
	server := filepath.Join(dir, "server")
	engine := n.engine(t, "--host", "tcp://127.0.0.1:2376", "--tlsverify", "--tlscacert", filepath.Join(server, "ca.pem"),
		"--tlscert", filepath.Join(server, "cert.pem"), "--tlskey", filepath.Join(server, "key.pem"))
	bin := n.sshd(t, dir, engine)

	tinyFrom = rootfs(t)
	registry, _ := registryInBoth(t, n.netns)
	tinyBase(t, registry+"/base:1")
	template := write(t, map[string]string{"imgbake.yaml": `
images:
  hello:
    builders: { docker: { image: "` + registry + `/base:1", network: none } }
    ` + hello + "\n"})

	cli := filepath.Join(dir, "cli")
	dockerContext(t, cli, "tls", "host=tcp://localhost:2376,ca="+dir+"/client/ca.pem,cert="+dir+"/client/cert.pem,key="+dir+"/client/key.pem")
	dockerContext(t, cli, "ssh", "host=ssh://root@localhost:2222")

	tcp := func(certs string) []string {
		return []string{"DOCKER_HOST=tcp://localhost:2376", "DOCKER_TLS_VERIFY=1", "DOCKER_CERT_PATH=" + filepath.Join(dir, certs)}
	}
	tests := map[string]struct {
		env  []string
		want string // in what is said; "" when it bakes
	}{
		"tls":                   {tcp("client"), ""},
		"tls context":           {[]string{"DOCKER_CONTEXT=tls"}, ""},
		"ssh context":           {[]string{"DOCKER_CONTEXT=ssh"}, ""},
		"another authority":     {tcp("strange"), "unknown authority"},
		"no client certificate": {tcp("half"), "client authentication"},
		"no such folder":        {tcp("nope"), "DOCKER_CERT_PATH"},
		"ssh to nobody":         {[]string{"DOCKER_HOST=ssh://root@localhost:2223"}, "onnection refused"},
		"ssh to a stranger":     {[]string{"DOCKER_HOST=ssh://root@127.0.0.1:2222"}, "Host key verification failed"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := site{cache: t.TempDir(), netns: n.netns, env: append([]string{"PATH=" + bin + ":" + os.Getenv("PATH"), "DOCKER_CONFIG=" + cli}, test.env...)}
			r := s.run(t, template, "build", "--engine=docker", "--plain")
			if said := r.stdout + r.stderr; (r.code == 0) != (test.want == "") || !strings.Contains(said, test.want) {
				t.Errorf("exit code %d, want %q in\n%s", r.code, test.want, said)
			}
			if left := labelled(t, engine); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// TestReach shows what SECURITY.md says a bake's commands can reach.
func TestReach(t *testing.T) {
	needTools(t, "slirp4netns")
	n := loneNetwork(t)
	engine := n.engine(t)
	dir := t.TempDir()
	if err := goBuild(filepath.Join(dir, "reach"), "./testdata/reach"); err != nil {
		t.Fatal(err)
	}
	tinyFrom = rootfs(t)
	registry, _ := registryInBoth(t, n.netns)
	tinyBase(t, registry+"/base:1")
	loopback, everywhere := listenIn(t, n.netns, "127.0.0.1:0"), listenIn(t, n.netns, "0.0.0.0:0")
	t.Cleanup(func() { loopback.Close(); everywhere.Close() })
	port := func(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }
	targets := []string{
		n.metadata(t),
		fmt.Sprintf("172.17.0.1:%d", port(everywhere)), // docker0: the host as containers see it
		fmt.Sprintf("127.0.0.1:%d", port(loopback)),
	}
	tests := map[string]struct{ engine, key, want string }{
		"default": {"docker", "", "yes yes no"},
		"none":    {"docker", ", network: none", "no no no"},
		"host":    {"docker", ", network: host", "yes yes yes"},

		"default, without an engine": {"oci", "", "yes yes yes"},
		"none, without an engine":    {"oci", ", network: none", "no no no"},
		"bridge, without an engine":  {"oci", ", network: bridge", "no yes no"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(filepath.Join(dir, "imgbake.yaml"), []byte(`
images:
  reach:
    builders: { docker: { image: "`+registry+`/base:1"`+test.key+` } }
    provisioners:
      - file: { source: reach, destination: /bin/reach, mode: "0755" }
      - shell: { inline: ["/bin/reach /answer `+strings.Join(targets, " ")+`", "cat /answer"] }
`), 0o644); err != nil {
				t.Fatal(err)
			}
			r := site{host: engine, cache: t.TempDir(), netns: n.netns}.run(t, dir, "build", "--engine="+test.engine, "--plain")
			want := strings.Fields(test.want)
			for i, target := range targets {
				if line := want[i] + " " + target; r.code != 0 || !strings.Contains(r.stdout+r.stderr, ": "+line+"\n") {
					t.Errorf("exit code %d, want %q in\n%s%s", r.code, line, r.stdout, r.stderr)
				}
			}
		})
	}
}

// A lone is a network namespace that no packet leaves.
type lone struct{ netns, name string }

func loneNetwork(t *testing.T) lone {
	t.Helper()
	if os.Geteuid() != 0 {
		missing(t, "a network namespace takes root")
	}
	needTools(t, "ip", "iptables", "nsenter", "dockerd")
	n := lone{name: fmt.Sprintf("imgbake-lone-%d", os.Getpid())}
	n.netns = "/run/netns/" + n.name
	script(t, "ip netns add "+n.name, "ip netns delete "+n.name)
	script(t, "ip -n "+n.name+" link set lo up", "")
	return n
}

// metadata puts what looks like a cloud's metadata service beside the
// namespace, and returns its address.
func (n lone) metadata(t *testing.T) string {
	t.Helper()
	cloud := n.name + "-cloud"
	script(t, "ip netns add "+cloud, "ip netns delete "+cloud)
	script(t, "ip -n "+n.name+" link add cloud type veth peer name machine netns "+cloud, "")
	for _, line := range []string{
		n.name + " addr add 169.254.169.253/30 dev cloud",
		n.name + " link set cloud up",
		cloud + " addr add 169.254.169.254/30 dev machine",
		cloud + " link set machine up",
	} {
		script(t, "ip -n "+line, "")
	}
	l := listenIn(t, "/run/netns/"+cloud, "169.254.169.254:80")
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// engine starts a Docker Engine in the namespace and returns its DOCKER_HOST.
func (n lone) engine(t *testing.T, flags ...string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "imgbake-") // short: the name of a socket is
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unmount(dir)
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	host := "unix://" + filepath.Join(dir, "docker.sock")
	n.daemon(t, append([]string{"dockerd", "--host", host, "--data-root", filepath.Join(dir, "data"),
		"--exec-root", filepath.Join(dir, "exec"), "--pidfile", filepath.Join(dir, "pid")}, flags...),
		func() bool { return ping(t.Context(), host) == nil })
	return host
}

// daemon runs a program in the namespace until the test ends, and waits until
// it is ready.
func (n lone) daemon(t *testing.T, args []string, ready func() bool) {
	t.Helper()
	cmd := exec.Command("nsenter", append([]string{"--net=" + n.netns}, args...)...)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	t.Cleanup(func() { cmd.Process.Signal(syscall.SIGTERM); <-ended })
	eventually(t, time.Minute, args[0]+" is ready", func() bool {
		select {
		case <-ended:
			t.Fatalf("%s ended:\n%s", args[0], log.String())
		default:
		}
		return ready()
	})
}

// sshd starts an SSH server in the namespace, at port 2222 of its loopback,
// whose sessions have the engine as DOCKER_HOST. It returns a folder with an
// ssh command that knows the server as localhost, and has a key for it.
func (n lone) sshd(t *testing.T, dir, engine string) (bin string) {
	t.Helper()
	for _, key := range []string{"host", "user"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, key)).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen: %v\n%s", err, out)
		}
	}
	program, err := exec.LookPath("sshd")
	if err != nil {
		missing(t, "%v", err)
	}
	// Debian's sshd wants this folder, which its service makes.
	if os.Mkdir("/run/sshd", 0o755) == nil {
		t.Cleanup(func() { os.Remove("/run/sshd") })
	}
	config := fmt.Sprintf(`ListenAddress 127.0.0.1:2222
HostKey %s/host
AuthorizedKeysFile %s/user.pub
StrictModes no
UsePAM no
PidFile none
SetEnv DOCKER_HOST=%s PATH=%s
`, dir, dir, engine, os.Getenv("PATH"))
	hostKey, err := os.ReadFile(filepath.Join(dir, "host.pub"))
	if err != nil {
		t.Fatal(err)
	}
	bin = write(t, map[string]string{
		"sshd_config": config,
		"known_hosts": "[localhost]:2222 " + string(hostKey),
		"ssh":         "#!/bin/sh\nexec " + lookPath(t, "ssh") + " -F /dev/null -i " + dir + "/user -o IdentitiesOnly=yes -o BatchMode=yes -o UserKnownHostsFile=${0%/*}/known_hosts \"$@\"\n",
	})
	if err := os.Chmod(filepath.Join(bin, "ssh"), 0o755); err != nil {
		t.Fatal(err)
	}
	n.daemon(t, []string{program, "-D", "-e", "-f", filepath.Join(bin, "sshd_config")}, func() bool {
		return inNetns(n.netns, func() error {
			conn, err := net.Dial("tcp", "127.0.0.1:2222")
			if err == nil {
				conn.Close()
			}
			return err
		}) == nil
	})
	return bin
}

func mkdir(t *testing.T, elem ...string) string {
	t.Helper()
	dir := filepath.Join(elem...)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func lookPath(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		missing(t, "%v", err)
	}
	return path
}

// dockerContext makes one with the docker command, as people do.
func dockerContext(t *testing.T, config, name, docker string) {
	t.Helper()
	cmd := exec.Command("docker", "context", "create", name, "--docker", docker)
	cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+config)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("docker context create %s: %v\n%s", name, err, out)
	}
}

// An authority issues certificates.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := authority{key, &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	a.cert.Raw = der
	return a
}

// issue writes a certificate, its key, and the authority to trust, with the
// names that docker gives them.
func (a authority) issue(t *testing.T, dir, name string, trusted authority) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	mkdir(t, dir)
	for file, block := range map[string]*pem.Block{
		"ca.pem":   {Type: "CERTIFICATE", Bytes: trusted.cert.Raw},
		"cert.pem": {Type: "CERTIFICATE", Bytes: der},
		"key.pem":  {Type: "EC PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
