package kernel

import "fmt"

// ifAnyState matches every packet, tracked or not.
func ifAnyState() statement {
	const state, invalid, established, related, opening, untracked = 0, 1, 2, 4, 8, 64 // NFT_CT_STATE and its bits
	return statement{"ct state invalid,established,related,new,untracked", concat(ct(state, -1, reg32),
		bitwise(reg32, native32(invalid|established|related|opening|untracked)), compare(reg32, cmpNeq, native32(0)))}
}

// ifTransparentSocket matches packets for a socket with IP_TRANSPARENT that is bound to one address.
func ifTransparentSocket() statement {
	const transparent, wildcard = 0, 2 // NFT_SOCKET_TRANSPARENT, NFT_SOCKET_WILDCARD
	is := func(key uint32, value byte) []byte {
		return concat(expr("socket", be32(1, key), be32(2, reg32)), compare(reg32, cmpEq, []byte{value}))
	}
	return statement{"socket transparent 1 socket wildcard 0", concat(is(transparent, 1), is(wildcard, 0))}
}

// setMark sets bits of the packet's mark.
func setMark(bits uint32) statement {
	const mark, source = 3, 3 // NFT_META_MARK, NFTA_META_SREG
	return statement{fmt.Sprintf("meta mark set meta mark | 0x%08x", bits), concat(meta(mark, reg32),
		expr("bitwise", be32(1, reg32), be32(2, reg32), be32(3, 4),
			nested(4, attr(1, native32(^bits))), nested(5, attr(1, native32(bits)))),
		expr("meta", be32(2, mark), be32(source, reg32)))}
}
