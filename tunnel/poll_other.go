//go:build !linux

package tunnel

import (
	"errors"
	"syscall"
	"time"

	"github.com/fairlead-net/fairlead/node"
)

// A poller is there on Linux alone.
type poller struct{}

// Bear takes over a socket: see node.Bearer. It cannot on this system.
func (st *Stream) Bear(int, node.BearOptions) (node.Borne, bool) { return nil, false }

func (p *poller) forget(*borne)                    {}
func (p *poller) release(*borne)                   {}
func (p *poller) stop()                            {}
func (b *borne) leave()                            {}
func (p *poller) all() []*borne                    { return nil }
func (p *poller) look(time.Duration) time.Duration { return time.Hour }

func (st *Stream) bearAgain(*FrozenStream, node.BearOptions, bool) (*borne, error) {
	return nil, errors.ErrUnsupported
}

func (s *Session) polling() (*poller, error) { return nil, errors.ErrUnsupported }
func (p *poller) watch(*borne) bool          { return false }
func sysIsUnix(int) bool                     { return false }
func sysSocketError(int) syscall.Errno       { return 0 }
func sysLocal(int) string                    { return "" }

func sysRead(int, []byte) (int, bool, error) { return 0, false, errors.ErrUnsupported }
func sysWrite(int, []byte) (int, error)      { return 0, errors.ErrUnsupported }
func sysSend(int, []byte) error              { return errors.ErrUnsupported }
func sysClose(int)                           {}
func sysShutdownWrite(int)                   {}
func sysReset(int)                           {}
func sysUnsent(int) int                      { return 0 }
