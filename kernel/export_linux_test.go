package kernel

import "github.com/fairlead-net/fairlead/forward"

// Drift reads the kernel and counts the elements that a carrier which forgot everything would add and delete for want.
func (c *Carrier) Drift(want []*forward.Forward) (add, del int, err error) {
	fresh := New(Options{Table: c.table})
	err = fresh.withSocket(func(s *nlSocket) error {
		ch, err := fresh.difference(s, forward.ListOf(want...))
		if err == nil {
			add, del = len(ch.add), len(ch.del)
		}
		return err
	})
	_ = fresh.Close()
	return add, del, err
}

// Drift is the same for a gateway.
func (g *Gateway) Drift(spec *forward.Gateway, open []forward.Listen, forwards []*forward.Forward) (add, del int, err error) {
	fresh := NewGateway(GatewayOptions{Table: g.table})
	err = fresh.socket.with(func(s *nlSocket) error {
		ch, err := fresh.difference(s, newGatewayPlan(spec, open), forward.ListOf(forwards...))
		if err != nil {
			return err
		}
		add, del = len(ch.add), len(ch.del)
		for _, name := range ch.setsGone { // which may linger, empty
			list, err := elementsOf(s, fresh.table, name)
			if err != nil {
				return err
			}
			del += len(list)
		}
		return nil
	})
	_ = fresh.Close()
	return add, del, err
}
