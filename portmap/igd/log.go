package igd

// The keys of attributes in the log.
const (
	keyInterface = "interface"
	keyAddresses = "addresses"
	keyClient    = "client"
	keyAction    = "action"
	keyCode      = "code"
	keyTo        = "to"
	keyError     = "error"
)
