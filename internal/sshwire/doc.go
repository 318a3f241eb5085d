// Package sshwire speaks SSH over a TCP connection, as client and as server, and carries forwarded channels without a goroutine
// that is woken for each packet: after the login everything happens in a loop around epoll(7). What is read from a forwarded
// socket is read into the place where its packet goes out, and encrypted there; what arrives is decrypted where it was read, and
// written to the socket from there.
//
//	Client, Server: one goroutine, which may wait
//	  version ─► KEXINIT ─► key exchange ─► NEWKEYS ─► login ─► Conn
//	     └──────────┴─► ErrUnsupported: x/crypto/ssh does it instead
//
//	Run: a Loop, which may not
//	                ┌ transport: open, seal, ┐  ┌─► stream  ◄─► Read and Write of goroutines
//	  SSH socket ◄─►┤ keys exchanged again   ├──┤
//	                └────────────────────────┘  └─► Carried ◄─► socket (readv into the packet, sendmsg from it)
//
// It speaks what can be fast and is good: mlkem768x25519-sha256 and curve25519-sha256, AES-GCM, strict key exchange, and logins
// by public key. For everything else there is golang.org/x/crypto/ssh, whose keys and signatures it uses, too: a client is told
// so before anything is lost (ErrUnsupported), and a server gets back the connection as if nothing had been read from it.
//
// A Loop can serve many connections; a server that has many clients is to give them a few loops, since a loop that waits holds a
// thread. A Door is a listening socket in a loop: its clients are carried without anybody else being woken.
//
// It knows nothing of forwards, of hosts and of who may do what: that is for those who use it. Other systems than Linux have no
// such loop; there the answer is always ErrUnsupported.
package sshwire
