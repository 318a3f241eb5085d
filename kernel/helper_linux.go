package kernel

import (
	"fmt"
	"iter"
	"os"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/forward"
)

// addHelper declares o; owner is a forward to blame when this kernel has no such helper.
func (b *batch) addHelper(o helperObject, owner string) {
	const kindHelper = 3 // NFT_OBJECT_CT_HELPER
	b.helpers[b.seq+1], b.owners[b.seq+1] = o, owner
	b.add(unix.NFT_MSG_NEWOBJ, unix.NLM_F_CREATE, str(1, b.table), str(2, o.name()), be32(3, kindHelper),
		nested(4, str(1, o.protocol().Kernel), attr(3, []byte{protocolNumber(o.network)})))
}

func (b *batch) deleteHelper(name string) {
	b.add(unix.NFT_MSG_DELOBJ, 0, str(1, b.table), str(2, name), be32(3, 3))
}

// helperNames is the names of the helper objects of a table.
func helperNames(s *nlSocket, table string) ([]string, error) {
	return names(s, unix.NFT_MSG_GETOBJ, 2, str(1, table))
}

// helperNotes is what the operator should know of the helpers of forwards: by helper, "" for those that are well.
func helperNotes(list iter.Seq[*forward.Forward]) map[forward.Helper]string {
	var modules []byte
	notes := map[forward.Helper]string{}
	for f := range list {
		if f.Helper == forward.HelperNone || f.Carry != forward.CarryKernel {
			continue
		}
		if _, known := notes[f.Helper]; known {
			continue
		}
		if modules == nil {
			modules, _ = os.ReadFile("/proc/modules") // a kernel without modules has no such file, and nothing to load
		}
		notes[f.Helper] = ""
		if missing := natModuleMissing(string(modules), f.Helper); missing != "" {
			notes[f.Helper] = fmt.Sprintf("addresses in the protocol are not translated: load the module %s (modprobe %s)", missing, missing)
		}
	}
	return notes
}
