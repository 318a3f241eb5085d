package kernel

// DefaultTable is the name of the daemon's nftables table, of family inet.
const DefaultTable = "fairlead"

// foregroundPrefix begins the names of tables that live as long as one process; its ID and start time follow, so that a
// table whose process was killed can be told from one in use.
const foregroundPrefix = "fairlead_fg_"

// layout is the version of the table's structure. It stands in the table's comment; a table of another layout is rebuilt.
const layout = "fairlead layout 1"
