package wake

import (
	"bytes"

	"github.com/fairlead-net/fairlead/forward"
)

const (
	syncLength  = 6  // octets of 0xff that a card waits for
	repetitions = 16 // of its own address, which must follow without a break
)

// MagicPacket is what wakes the card with this address: 102 bytes, and the password's. A card looks for it anywhere in a
// frame that reaches it, whatever protocol that is (AMD, Magic Packet Technology, publication 20213, 1995, section 2). Of
// SecureOn there is no public standard; cards and ether-wake(8) have the password right behind the repetitions.
func MagicPacket(mac forward.MAC, password forward.WakePassword) []byte {
	secret := password.Bytes()
	packet := make([]byte, 0, syncLength+repetitions*len(mac)+len(secret))
	packet = append(packet, bytes.Repeat([]byte{0xff}, syncLength)...)
	packet = append(packet, bytes.Repeat(mac[:], repetitions)...)
	return append(packet, secret...)
}
