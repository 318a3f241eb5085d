package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/bench/load"
	"github.com/fairlead-net/fairlead/internal/netlab"
)

// firstPort is the first that a forward of a large configuration listens on; the others follow without a gap.
const firstPort = 2000

// nftChain is a ruleset with a chain that translates destinations, as one writes it by hand.
func nftChain(sets, rules string) string {
	return "table ip bench {\n" + sets + "chain pre { type nat hook prerouting priority dstnat; policy accept\n" + rules + "}\n}\n"
}

// nftRules is n forwards as one rule each.
func nftRules(g *gateway, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "ip daddr %s tcp dport %d dnat to %s:%d\n", g.front, firstPort+i, g.target, load.EchoPort)
	}
	return nftChain("", b.String())
}

// nftRange is n forwards as one rule with a range of ports.
func nftRange(g *gateway, n int) string {
	return nftChain("", fmt.Sprintf("ip daddr %s tcp dport %d-%d dnat to %s:%d\n", g.front, firstPort, firstPort+n-1, g.target, load.EchoPort))
}

// nftMap is n forwards as one rule with a map.
func nftMap(g *gateway, n int) string {
	var b strings.Builder
	b.WriteString("map to { type inet_service : ipv4_addr . inet_service; elements = {")
	for i := range n {
		fmt.Fprintf(&b, "%d : %s . %d,\n", firstPort+i, g.target, load.EchoPort)
	}
	b.WriteString("} }\n")
	return nftChain(b.String(), "ip daddr "+g.front+" dnat ip to tcp dport map @to\n")
}

// kernelForwards is a fairlead.toml with n forwards that the kernel can carry.
func kernelForwards(g *gateway, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "[forward.f%d]\nlisten = \"%d\"\nto = \"%s:%d\"\n", i, firstPort+i, g.target, load.EchoPort)
	}
	return b.String()
}

// spread16 are the addresses of at most 16 of n forwards, spread evenly over all of them, the last included.
func spread16(g *gateway, n int) []string {
	var targets []string
	k := min(n, 16)
	for i := range k {
		targets = append(targets, fmt.Sprintf("%s:%d", g.front, firstPort+(i+1)*n/k-1))
	}
	return targets
}

// generation is how many transactions nf_tables has committed in the namespace of n, modulo 2^32.
func generation(n *netlab.Node) (gen uint32, err error) {
	err = n.Do(func() error {
		c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
		if err != nil {
			return err
		}
		defer c.Close()
		replies, err := c.Execute(netlink.Message{
			Header: netlink.Header{
				Type:  netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN),
				Flags: netlink.Request,
			},
			Data: []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, 0},
		})
		if err != nil {
			return err
		}
		for _, m := range replies {
			attrs, err := netlink.NewAttributeDecoder(m.Data[4:])
			if err != nil {
				return err
			}
			attrs.ByteOrder = binary.BigEndian
			for attrs.Next() {
				if attrs.Type() == unix.NFTA_GEN_ID {
					gen = attrs.Uint32()
					return attrs.Err()
				}
			}
		}
		return errors.New("nf_tables does not say its generation")
	})
	return gen, err
}
