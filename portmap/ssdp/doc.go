// Package ssdp reads and writes the datagrams by which UPnP devices and those who look for them find each other (UPnP Device
// Architecture 1.1, section 1): searches, their answers, and notices. It is for both sides, and pure: no sockets, no clocks, no
// decisions about whom to answer.
package ssdp
