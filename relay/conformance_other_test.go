//go:build !linux

package relay

import "runtime"

// systemWholes are the cases that take system calls which other systems have in another form.
var systemWholes []whole

// sendWithFIN leaves it to the system whether the FIN is in the segment of the last bytes.
func (e *end) sendWithFIN(text string) {
	e.t.Helper()
	e.send(text)
	e.fin()
}

// peek gives what was sent a chance to arrive; whether it has makes no difference to what is expected.
func (e *end) peek() { runtime.Gosched() }
