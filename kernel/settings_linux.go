package kernel

import (
	"bufio"
	"bytes"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// errReadOnly is what writing to a setting answers in a container.
const errReadOnly = unix.EROFS

// formatSettings is the text of the file: a line for the boot, and one for each setting with what it was and is.
func formatSettings(boot string, list []setting) []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, "# what fairlead has changed, what it was, and what it is\nboot %s\n", boot)
	for _, s := range list {
		fmt.Fprintf(&out, "%s %s %s\n", s.path, s.was, s.is)
	}
	return out.Bytes()
}

// parseSettings reads what formatSettings wrote. It takes no path and no value but those that a router changes: whoever can
// write to the file would else choose any setting of the kernel.
func parseSettings(b []byte) (boot string, list []setting, err error) {
	lines := bufio.NewScanner(bytes.NewReader(b))
	for n := 1; lines.Scan(); n++ {
		words := strings.Fields(lines.Text())
		switch {
		case len(words) == 0 || strings.HasPrefix(words[0], "#"):
		case len(words) == 2 && words[0] == "boot":
			boot = words[1]
		case len(words) == 3 && isRouterSetting(words[0]) && isDigit(words[1]) && isDigit(words[2]):
			list = append(list, setting{path: words[0], was: words[1], is: words[2], follow: strings.HasSuffix(words[0], "/accept_ra")})
		default:
			return "", nil, fmt.Errorf("line %d is none of a gateway's settings: remove the file, and look at net.ipv4.ip_forward", n)
		}
	}
	return boot, list, lines.Err()
}

func isRouterSetting(path string) bool {
	if path == "net/ipv4/ip_forward" || path == "net/ipv6/conf/all/forwarding" {
		return true
	}
	iface, isRA := strings.CutSuffix(path, "/accept_ra")
	iface, isConf := strings.CutPrefix(iface, "net/ipv6/conf/")
	return isRA && isConf && iface != "" && iface != "." && iface != ".." && !strings.Contains(iface, "/")
}

func isDigit(s string) bool { return len(s) == 1 && '0' <= s[0] && s[0] <= '9' }
