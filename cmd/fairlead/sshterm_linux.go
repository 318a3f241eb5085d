package main

import (
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// terminalModes describes the terminal of a descriptor (RFC 4254, section 8).
func terminalModes(fd int) ssh.TerminalModes {
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return plainModes()
	}
	modes := ssh.TerminalModes{ssh.TTY_OP_ISPEED: speedOf(t.Cflag), ssh.TTY_OP_OSPEED: speedOf(t.Cflag)}
	for mode, at := range map[uint8]int{
		ssh.VINTR: unix.VINTR, ssh.VQUIT: unix.VQUIT, ssh.VERASE: unix.VERASE, ssh.VKILL: unix.VKILL, ssh.VEOF: unix.VEOF,
		ssh.VEOL: unix.VEOL, ssh.VEOL2: unix.VEOL2, ssh.VSTART: unix.VSTART, ssh.VSTOP: unix.VSTOP, ssh.VSUSP: unix.VSUSP,
		ssh.VREPRINT: unix.VREPRINT, ssh.VWERASE: unix.VWERASE, ssh.VLNEXT: unix.VLNEXT, ssh.VDISCARD: unix.VDISCARD,
	} {
		if modes[mode] = uint32(t.Cc[at]); t.Cc[at] == 0 {
			modes[mode] = 255 // _POSIX_VDISABLE of the protocol
		}
	}
	for _, group := range []struct {
		word uint32
		bits map[uint8]uint32
	}{
		{t.Iflag, map[uint8]uint32{
			ssh.IGNPAR: unix.IGNPAR, ssh.PARMRK: unix.PARMRK, ssh.INPCK: unix.INPCK, ssh.ISTRIP: unix.ISTRIP, ssh.INLCR: unix.INLCR,
			ssh.IGNCR: unix.IGNCR, ssh.ICRNL: unix.ICRNL, ssh.IUCLC: unix.IUCLC, ssh.IXON: unix.IXON, ssh.IXANY: unix.IXANY,
			ssh.IXOFF: unix.IXOFF, ssh.IMAXBEL: unix.IMAXBEL, ssh.IUTF8: unix.IUTF8,
		}},
		{t.Lflag, map[uint8]uint32{
			ssh.ISIG: unix.ISIG, ssh.ICANON: unix.ICANON, ssh.XCASE: unix.XCASE, ssh.ECHO: unix.ECHO, ssh.ECHOE: unix.ECHOE,
			ssh.ECHOK: unix.ECHOK, ssh.ECHONL: unix.ECHONL, ssh.NOFLSH: unix.NOFLSH, ssh.TOSTOP: unix.TOSTOP, ssh.IEXTEN: unix.IEXTEN,
			ssh.ECHOCTL: unix.ECHOCTL, ssh.ECHOKE: unix.ECHOKE, ssh.PENDIN: unix.PENDIN,
		}},
		{t.Oflag, map[uint8]uint32{
			ssh.OPOST: unix.OPOST, ssh.OLCUC: unix.OLCUC, ssh.ONLCR: unix.ONLCR, ssh.OCRNL: unix.OCRNL, ssh.ONOCR: unix.ONOCR, ssh.ONLRET: unix.ONLRET,
		}},
		{t.Cflag, map[uint8]uint32{ssh.CS7: unix.CS7, ssh.CS8: unix.CS8, ssh.PARENB: unix.PARENB, ssh.PARODD: unix.PARODD}},
	} {
		for mode, bit := range group.bits {
			modes[mode] = 0
			if group.word&bit == bit {
				modes[mode] = 1
			}
		}
	}
	return modes
}

// speedOf is the speed in bits a second of a c_cflag.
func speedOf(cflag uint32) uint32 {
	speeds := map[uint32]uint32{
		unix.B9600: 9600, unix.B19200: 19200, unix.B38400: 38400, unix.B57600: 57600, unix.B115200: 115200, unix.B230400: 230400,
	}
	if speed, ok := speeds[cflag&(unix.CBAUD|unix.CBAUDEX)]; ok {
		return speed
	}
	return 38400
}
