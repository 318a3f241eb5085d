// Package engine moves bytes between pairs of sockets, for any number of pairs, with a loop per processor that never waits
// for one of them: epoll(7), edge-triggered, and splice(2) for bulk. A pair that is idle holds its two descriptors and a few
// hundred bytes, no goroutine, no buffer and no pipe.
//
// It knows nothing of forwards. Who may connect, where to, and what is counted is for those who give it sockets; they are
// called in the loop, and must not wait for anything.
//
//	                    ┌──────────────── Loop, one per processor ────────────────┐
//	listening socket ─► │ door ─► Taker.Take ─► Stream: connecting ─► open ─► ended │ ─► Owner
//	                    │   epoll ─► Ready ─► pump client→target, target→client     │
//	                    └───────────────────────────────────────────────────────────┘
//
// Other systems than Linux have no engine; there the relay copies between net.Conns.
package engine
