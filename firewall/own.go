package firewall

import "strings"

// isOwnTable reports whether a table is Fairlead's: all of its names begin alike.
func isOwnTable(name string) bool { return name == "fairlead" || strings.HasPrefix(name, "fairlead_") }
