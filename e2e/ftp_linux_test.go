package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

const ftpFile = `
[forward.k]
listen = "0.0.0.0:2021"
to = "192.168.1.10:21"
helper = "ftp"
[forward.k6]
listen = "[::]:2021"
to = "[fd00:1::10]:21"
helper = "ftp"
[forward.r]
listen = "2022"
to = "192.168.1.10:21"
helper = "ftp"
carry = "relay"
[forward.r6]
listen = "2023"
to = "[fd00:1::10]:21"
helper = "ftp"
carry = "relay"
[forward.range]
listen = "2024"
to = "192.168.1.10:21"
helper = "ftp"
passive_ports = "50000-50020"
[forward.without]
listen = "0.0.0.0:2025"
to = "192.168.1.10:21"
`

// onlyRelated is a firewall of a router that lets through what forwards lead on and what belongs to sessions, and nothing else.
const onlyRelated = `table inet firewall {
chain forward {
type filter hook forward priority filter; policy drop
ct state established,related accept
ct state new ct status dnat accept
}
}`

// ftpClients are command lines that write pub/file of a URL to OUT. HOST and PORT are those of the URL.
var ftpClients = map[string]string{
	"curl, EPSV": "curl -sS -m 10 -o OUT ftp://HOST:PORT/pub/file",
	"curl, PASV": "curl -sS -m 10 --disable-epsv -o OUT ftp://HOST:PORT/pub/file",
	"curl, EPRT": "curl -sS -m 10 -P - -o OUT ftp://HOST:PORT/pub/file",
	"curl, PORT": "curl -sS -m 10 -P - --disable-eprt -o OUT ftp://HOST:PORT/pub/file",
	"lftp":       "lftp -c set net:timeout 5; set net:max-retries 1; get ftp://HOST:PORT/pub/file -o OUT",
	"lftp -a":    "lftp -c set net:timeout 5; set net:max-retries 1; set ftp:passive-mode off; get ftp://HOST:PORT/pub/file -o OUT",
	"tnftp":      "tnftp -V -p -q 8 -o OUT ftp://HOST:PORT/pub/file",
	"tnftp -A":   "tnftp -V -A -q 8 -o OUT ftp://HOST:PORT/pub/file",
}

func ftpGet(t *testing.T, from *netlab.Node, client, host, port string) ([]byte, error) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	line := strings.NewReplacer("HOST", host, "PORT", port, "OUT", out).Replace(ftpClients[client])
	words := strings.Fields(line)
	if words[0] == "lftp" {
		words = []string{"lftp", "-c", strings.TrimPrefix(line, "lftp -c ")}
	}
	said, err := from.Command(t.Context(), words[0], words[1:]...).CombinedOutput()
	got, _ := os.ReadFile(out)
	if err != nil {
		err = fmt.Errorf("%w: %s", err, said)
	}
	return got, err
}

// TestFTP has real clients fetch from real servers, active and passive, by both carriers and both families.
func TestFTP(t *testing.T) {
	needs(t, "curl", "lftp", "tnftp")
	servers := map[string]func(*testing.T, *netlab.Node) ftpd{"vsftpd": vsftpd}
	if _, err := exec.LookPath("proftpd"); err == nil { // Debian installs one of the two
		servers["proftpd"] = proftpd
	}
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			needs(t, name)
			lab := netlab.Gateway(t)
			s := start(t, lab.Server)
			lab.Host.Nft(t, onlyRelated)
			d := up(t, lab.Host, ftpFile)
			d.expect("k kernel up", "k6 kernel up", "r relay up", "r6 relay up", "range relay up", "without kernel up")
			for client := range ftpClients {
				for _, to := range []struct{ host, port string }{
					{"203.0.113.1", "2021"}, {"[2001:db8:1::1]", "2021"}, {"203.0.113.1", "2022"}, {"[2001:db8:1::1]", "2022"},
					{"203.0.113.1", "2023"}, {"[2001:db8:1::1]", "2023"}, {"203.0.113.1", "2024"},
				} {
					if got, err := ftpGet(t, lab.Client, client, to.host, to.port); string(got) != s.file {
						t.Errorf("%s from %s:%s: %d bytes, %v", client, to.host, to.port, len(got), err)
					}
				}
			}
			for _, from := range []*netlab.Node{lab.Peer, lab.Host} { // beside the server, and between
				for _, client := range []string{"curl, EPSV", "curl, PASV", "curl, EPRT", "curl, PORT"} {
					for _, to := range []struct{ host, port string }{{"203.0.113.1", "2021"}, {"[2001:db8:1::1]", "2021"}, {"203.0.113.1", "2022"}} {
						if got, err := ftpGet(t, from, client, to.host, to.port); string(got) != s.file {
							t.Errorf("%s on %s from %s:%s: %d bytes, %v", client, from, to.host, to.port, len(got), err)
						}
					}
				}
			}
			if got, err := ftpGet(t, lab.Client, "curl, PASV", "203.0.113.1", "2025"); err == nil {
				t.Errorf("without a helper: %d bytes", len(got))
			}
			for port, client := range map[string]*netlab.Node{"2021": lab.Client, "2022": lab.Client, "2023": lab.Host} {
				up := "sent by " + port
				client.Feed(t, up, "curl", "-sS", "-m", "10", "-T", "-", "ftp://203.0.113.1:"+port+"/pub/up"+port)
				if got := read(t, filepath.Join(s.dir, "pub/up"+port)); got != up {
					t.Errorf("by port %s: %q arrived", port, got)
				}
			}
			d.wait("the relay has seen the end of all sessions", func() bool {
				for _, f := range d.status() {
					if f.Connections.Open > 0 && f.Carried == "relay" {
						return false
					}
				}
				return true
			})
			for name, f := range d.status() {
				if name != "without" && f.Connections.Total == 0 {
					t.Errorf("%s counts %+v", name, f.Connections)
				}
				if f.Carried == "relay" && f.Bytes.Out < uint64(len(s.file)) {
					t.Errorf("%s counts %+v", name, f.Bytes)
				}
			}
		})
	}
}

// TestFTPOfThisHost serves clients of a server on the gateway itself, and those of the gateway.
func TestFTPOfThisHost(t *testing.T) {
	needs(t, "curl", "vsftpd")
	lab := netlab.Gateway(t)
	s := vsftpd(t, lab.Host)
	d := up(t, lab.Host, strings.NewReplacer(`"192.168.1.10:21"`, `":21"`, `"[fd00:1::10]:21"`, `":21"`).Replace(ftpFile))
	d.expect("k kernel up", "k6 kernel up", "r relay up")
	for _, client := range []string{"curl, EPSV", "curl, PASV", "curl, EPRT", "curl, PORT"} {
		for _, port := range []string{"2021", "2022"} {
			for _, from := range []*netlab.Node{lab.Client, lab.Host} {
				if got, err := ftpGet(t, from, client, "203.0.113.1", port); string(got) != s.file {
					t.Errorf("%s from %s, port %s: %d bytes, %v", client, from, port, len(got), err)
				}
			}
		}
	}
}

// TestFTPS passes TLS through, with data connections by passive_ports.
func TestFTPS(t *testing.T) {
	needs(t, "curl", "lftp", "vsftpd")
	lab := netlab.Gateway(t)
	s := vsftpd(t, lab.Server)
	d := up(t, lab.Host, ftpFile)
	for _, args := range []string{
		"curl -sS -k -m 10 --ssl-reqd ftp://203.0.113.1:2024/pub/file",
		"curl -sS -k -m 10 --ssl-reqd --disable-epsv ftp://203.0.113.1:2024/pub/file",
		"curl -sS -k -m 10 --ssl-reqd ftp://[2001:db8:1::1]:2024/pub/file",
		"curl -sS -m 10 ftp://203.0.113.1:2024/pub/file",
	} {
		words := strings.Fields(args)
		if got := lab.Client.Run(t, words[0], words[1:]...); got != s.file {
			t.Errorf("%s: %d bytes", args, len(got))
		}
	}
	const settings = "set net:timeout 5; set net:max-retries 1; set ssl:verify-certificate no; set ftp:ssl-force yes; set ftp:ssl-protect-data yes; "
	if got := lab.Client.Run(t, "lftp", "-c", settings+"cat ftp://203.0.113.1:2024/pub/file"); got != s.file {
		t.Errorf("lftp: %d bytes", len(got))
	}
	if f := d.status()["range"]; f.Bytes.Out < uint64(4*len(s.file)) {
		t.Errorf("counted: %+v", f)
	}
	d.wait("the ports of the range are closed", func() bool { return !lab.Host.Listening("tcp", 50003) })
}

// TestFTPSessions shows a transfer while it runs, and ends it with its session.
func TestFTPSessions(t *testing.T) {
	needs(t, "curl", "vsftpd")
	lab := netlab.Gateway(t)
	s := vsftpd(t, lab.Server)
	write(t, filepath.Join(s.dir, "pub/big"), strings.Repeat("0123456789abcdef", 4<<20))
	d := up(t, lab.Host, ftpFile+`
[forward.slow]
listen = "2026"
to = "192.168.1.10:21"
helper = "ftp"
bandwidth = "8Mbit"
max_connections = 1
`)
	for name, port := range map[string]string{"k": "2021", "r": "2022", "slow": "2026"} {
		p := lab.Client.Start(t, "curl", "-sS", "--limit-rate", "2M", "-o", "/dev/null", "ftp://203.0.113.1:"+port+"/pub/big")
		var control string
		d.wait("both connections are shown", func() bool {
			list := d.sessions(name)
			for _, one := range list {
				if strings.HasSuffix(one.Target, ":21") {
					control = one.ID
				}
			}
			return len(list) == 2
		})
		if name == "slow" {
			if out, err := lab.Client.Command(t.Context(), "curl", "-sS", "-m", "5", "ftp://203.0.113.1:2026/").CombinedOutput(); err == nil {
				t.Errorf("max_connections lets a second session in: %s", out)
			}
		}
		d.run("kill", control)
		d.wait("both are gone", func() bool { return len(d.sessions(name)) == 0 })
		if p.Wait(t.Context()) == nil {
			t.Errorf("%s: curl has not noticed", name)
		}
	}
}

// TestFTPByNode dials the server from an SSH server beside it: passive data connections go the same way, and active ones are
// refused, so that a client can change its mind.
func TestFTPByNode(t *testing.T) {
	needs(t, "curl", "vsftpd")
	lab := netlab.Gateway(t)
	s := vsftpd(t, lab.Server)
	node := sshd(t, lab.Peer, 2200, netlab.Peer4)
	d := up(t, lab.Host, fmt.Sprintf(`
[node.peer]
ssh = "root@192.168.1.20:2200"
identity = %q
known_hosts = %q
[forward.ftp]
listen = "2021"
to = "192.168.1.10:21"
via = "peer"
helper = "ftp"
`, node.key, node.knownHosts))
	d.wait("the node is there", func() bool { return d.status()["ftp"].State == "up" })
	for _, client := range []string{"curl, EPSV", "curl, PASV"} {
		if got, err := ftpGet(t, lab.Client, client, "203.0.113.1", "2021"); string(got) != s.file {
			t.Errorf("%s: %d bytes, %v", client, len(got), err)
		}
	}
	if got, err := ftpGet(t, lab.Client, "curl, EPSV", "[2001:db8:1::1]", "2021"); string(got) != s.file {
		t.Errorf("IPv6: %d bytes, %v", len(got), err)
	}
	out, err := lab.Client.Command(t.Context(), "curl", "-sSv", "-m", "10", "-P", "-", "ftp://203.0.113.1:2021/pub/file").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "502 The server cannot call back") {
		t.Errorf("active: %v, %s", err, out)
	}
}

// TestTFTP has the kernel's helper expect what a server of TFTP answers, from a port of its own.
func TestTFTP(t *testing.T) {
	needs(t, "curl", "tftp", "in.tftpd")
	lab := netlab.Gateway(t)
	file := newFTPD(t)
	lab.Server.Start(t, "in.tftpd", "-L", "-4", "-a", "192.168.1.10:69", "-u", "ftp", "-s", file.dir)
	lab.Server.WaitListen(t, "udp", 69)
	lab.Server.Start(t, "in.tftpd", "-L", "-6", "-a", "[fd00:1::10]:69", "-u", "ftp", "-s", file.dir)
	waitFor(t, "the server of IPv6", func() bool {
		return strings.Contains(lab.Server.Run(t, "ss", "-Huln", "sport", "=", "69"), "fd00:1::10")
	})
	lab.Host.Nft(t, onlyRelated)
	d := up(t, lab.Host, `
[forward.k]
listen = "udp/0.0.0.0:6969"
to = "192.168.1.10:69"
helper = "tftp"
[forward.k6]
listen = "udp/[::]:6969"
to = "[fd00:1::10]:69"
helper = "tftp"
[forward.without]
listen = "udp/0.0.0.0:6970"
to = "192.168.1.10:69"
`)
	d.expect("k kernel up", "k6 kernel up", "without kernel up")
	for _, host := range []string{"203.0.113.1", "[2001:db8:1::1]"} {
		if got := lab.Client.Run(t, "curl", "-sS", "-m", "10", "tftp://"+host+":6969/pub/file"); got != file.file {
			t.Errorf("curl, %s: %d bytes", host, len(got))
		}
	}
	out := filepath.Join(t.TempDir(), "out")
	lab.Client.Run(t, "tftp", "-m", "binary", "203.0.113.1", "6969", "-c", "get", "pub/file", out)
	if got := read(t, out); got != file.file {
		t.Errorf("tftp: %d bytes", len(got))
	}
	shown := 0
	for _, one := range d.sessions("k") {
		if !strings.HasSuffix(one.Target, ":69") {
			shown++
		}
	}
	if shown != 2 {
		t.Errorf("%d sessions of data are shown: %v", shown, d.sessions("k"))
	}
	if got, err := lab.Client.Command(t.Context(), "curl", "-sS", "-m", "3", "tftp://203.0.113.1:6970/pub/file").Output(); err == nil {
		t.Errorf("without a helper: %d bytes", len(got))
	}
}

// An ftpd is a server of FTP at port 21, with pub/file in dir.
type ftpd struct{ dir, file string }

// newFTPD makes what a server serves.
func newFTPD(t *testing.T) ftpd {
	t.Helper()
	s := ftpd{dir: t.TempDir(), file: strings.Repeat("a line of a file\n", 20000)}
	if err := os.Mkdir(filepath.Join(s.dir, "pub"), 0o777); err != nil {
		t.Fatal(err)
	}
	_ = os.Chmod(filepath.Join(s.dir, "pub"), 0o777)
	_ = os.Chmod(s.dir, 0o555)
	_ = os.Chmod(filepath.Dir(s.dir), 0o755) // proftpd looks there as the user that clients become
	t.Cleanup(func() { _ = os.Chmod(s.dir, 0o755) })
	write(t, filepath.Join(s.dir, "pub/file"), s.file)
	return s
}

func vsftpd(t *testing.T, n *netlab.Node) ftpd {
	t.Helper()
	s, dir := newFTPD(t), t.TempDir()
	write(t, filepath.Join(dir, "vsftpd.conf"), fmt.Sprintf(`listen=NO
listen_ipv6=YES
background=NO
seccomp_sandbox=NO
anonymous_enable=YES
no_anon_password=YES
local_enable=NO
write_enable=YES
anon_upload_enable=YES
anon_umask=022
anon_root=%s
secure_chroot_dir=%s
connect_from_port_20=YES
pasv_min_port=50000
pasv_max_port=50020
ssl_enable=YES
allow_anon_ssl=YES
force_local_logins_ssl=NO
force_local_data_ssl=NO
require_ssl_reuse=NO
ssl_tlsv1=YES
ssl_ciphers=HIGH
rsa_cert_file=%[3]s
rsa_private_key_file=%[3]s
xferlog_enable=NO
`, s.dir, t.TempDir(), certificate(t, "ftp.example")))
	n.Start(t, "vsftpd", filepath.Join(dir, "vsftpd.conf"))
	n.WaitListen(t, "tcp", 21)
	return s
}

func proftpd(t *testing.T, n *netlab.Node) ftpd {
	t.Helper()
	s, dir := newFTPD(t), t.TempDir()
	write(t, filepath.Join(dir, "proftpd.conf"), fmt.Sprintf(`ServerName test
ServerType standalone
Port 21
DefaultAddress 0.0.0.0 ::
UseIPv6 on
UseReverseDNS off
User ftp
Group nogroup
WtmpLog none
TransferLog none
DelayEngine off
PassivePorts 50000 50020
PidFile %[2]s/pid
ScoreboardFile %[2]s/scoreboard
AuthOrder mod_auth_unix.c
<Anonymous %[1]s>
User ftp
Group nogroup
UserAlias anonymous ftp
RequireValidShell off
</Anonymous>
`, s.dir, dir))
	n.Start(t, "proftpd", "-n", "-c", filepath.Join(dir, "proftpd.conf"))
	n.WaitListen(t, "tcp", 21)
	return s
}
