// Package publish has the ports of this host opened at somebody else's gateways: by PCP, else NAT-PMP, else UPnP, at each gateway
// that there is, and at the one behind it when that has no public address itself. It keeps the mappings up, looks whether they are
// still there, and says where this host is reached from outside or what is wrong.
//
// What gateways say is a stranger's word: it is bounded in size, time and number, parsed by the codecs next door, and no address in
// it is ever connected to but that of who said it. Which forwards are published is the caller's affair, and so is carrying what
// comes in: neither forwards nor the table are known here.
package publish
