package e2e

import (
	"strings"
	"testing"
)

// TestFTPOfAHome is the FTP server of the README behind a gateway that protects: no port is open besides 21, and transfers come
// through in both modes and families, by the kernel and by the relay. Of a server in the DMZ, too, which may start nothing.
func TestFTPOfAHome(t *testing.T) {
	needs(t, "curl", "lftp", "vsftpd", "nft")
	h := newHome(t)
	inLAN, inDMZ := vsftpd(t, h.anna), vsftpd(t, h.server)
	d := up(t, h.router, `
[gateway]
wan = "wan"
lan = "lan"
[dmz]
interfaces = "dmz"
[forward.ftp]
listen = "21"
to = "`+annaAddr+`"
helper = "ftp"
[forward.relayed]
listen = "2121"
to = "`+annaAddr+`:21"
helper = "ftp"
carry = "relay"
[forward.dmz]
listen = "2122"
to = "`+serverAddr+`:21"
helper = "ftp"
carry = "relay"
`)
	d.expect("relayed relay up", "dmz relay up")
	for port, want := range map[string]string{"21": inLAN.file, "2121": inLAN.file, "2122": inDMZ.file} {
		for _, client := range []string{"curl, EPSV", "curl, PASV", "curl, EPRT", "lftp", "lftp -a"} {
			for _, host := range []string{outerAddr, "[" + outerAddr6 + "]"} {
				if got, err := ftpGet(t, h.wan, client, host, port); string(got) != want {
					t.Errorf("%s from %s:%s: %d bytes, %v", client, host, port, len(got), err)
				}
			}
		}
	}
	d.wait("nobody is waited for any more", func() bool {
		out := h.router.Run(t, "nft", "list", "set", "inet", "fairlead_gateway", "awaited4_tcp") +
			h.router.Run(t, "nft", "list", "set", "inet", "fairlead_gateway", "awaited6_tcp")
		return !strings.Contains(out, "elements")
	})
	d.run("down")
	if out := h.router.Run(t, "nft", "list", "ruleset"); strings.Contains(out, "fairlead") {
		t.Errorf("left behind:\n%s", out)
	}
}
