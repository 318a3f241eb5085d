// Package igd is the UPnP Internet gateway device: it lets the clients of a network find it (SSDP), read what it can do, ask for ports
// and pinholes (SOAP), and be told of changes (GENA). What it is asked for it asks of a portmap.Desk; it knows of sockets, texts and
// subscriptions, and of no forwards.
//
// Nobody is answered but on the interfaces that it is told to serve, and there only those with an address of that network. Sockets are
// bound to their interface, and datagrams are looked at for the interface that they came in by. It opens connections to nobody but
// to who subscribed.
package igd
