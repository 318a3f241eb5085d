// Package upnp reads and writes what UPnP gateways and their clients say to each other over HTTP: descriptions of devices and services,
// the SOAP calls that act on them, and events (UPnP Device Architecture 1.1, sections 2 to 4; WANIPConnection 1 and 2,
// WANIPv6FirewallControl 1). It is for both sides, and pure: texts in, texts out, no HTTP, and no decisions.
//
// Nothing in a text is ever looked up or fetched: there are no entities but XML's five, no document types, and lengths, depth and
// the number of elements have bounds.
package upnp
