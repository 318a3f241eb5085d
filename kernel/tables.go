package kernel

// DefaultTable is the name of the daemon's nftables table, of family inet.
const DefaultTable = "fairlead"

// foregroundPrefix begins the names of tables that live as long as one process.
const foregroundPrefix = "fairlead_fg_"

// layout is the version of the table's structure. It stands in the table's comment; a table of another layout is rebuilt.
const (
	layoutPrefix = "fairlead layout "
	layout       = layoutPrefix + "3"
)
