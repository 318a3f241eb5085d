package api

import (
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/table"
)

func TestLeases(t *testing.T) {
	f := mustForward(t, "lease-192.168.1.20-udp-3074", "udp/203.0.113.5:3075", "192.168.1.20:3074")
	f.Origin, f.Expires = "lease:upnp", time.Now().Add(time.Hour)
	f.From = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	f.Lease = &forward.Lease{Client: netip.MustParseAddr("192.168.1.20"), MAC: "02:00:00:00:00:20", Hostname: "xbox", Description: "Xbox Live"}
	asking := *f
	asking.Name, asking.Disabled, asking.Lease = "lease-x", true, &forward.Lease{Client: f.Lease.Client, Asking: true}
	off := *f
	off.Name, off.Disabled = "lease-y", true
	fake := &fakeTable{}
	fake.set(mustForward(t, "web", "80", "192.168.1.9"))
	s := fake.set(f)
	s.Stats = forward.Stats{Open: 1, Total: 2, BytesIn: 3, BytesOut: 4}
	fake.all[f.Name] = s
	fake.set(&asking)
	fake.set(&off)
	var problems []string
	c := NewClient(serve(t, Options{
		Table: fake, Leases: fakeLeases{"02:00:00:00:00:20": {"lease-x"}, "odd/name?": nil}, Problems: func() []string { return problems },
	}))
	defer c.Close()

	for _, wrong := range [][]string{nil, {"the port-mapping server does not run: the port is taken"}} {
		problems = wrong
		if got, err := c.Problems(t.Context()); err != nil || !slices.Equal(got, wrong) {
			t.Errorf("problems: %q %v", got, err)
		}
	}
	list, err := c.Leases(t.Context())
	if err != nil || len(list) != 3 {
		t.Fatalf("%+v %v", list, err)
	}
	got := list[0]
	if got.Remaining == nil || *got.Remaining < 3590 || *got.Remaining > 3600 || got.Expires == nil {
		t.Errorf("%+v", got)
	}
	got.Remaining, got.Expires = nil, nil
	want := Lease{
		Name: f.Name, Client: "192.168.1.20", MAC: "02:00:00:00:00:20", Hostname: "xbox", Description: "Xbox Live", Protocol: "upnp", Network: "udp",
		Internal: "192.168.1.20:3074", External: "203.0.113.5:3075", From: []string{"198.51.100.0/24"}, State: "up",
		Connections: Connections{Open: 1, Total: 2}, Bytes: Bytes{3, 4},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
	if list[1].State != "asking" || !strings.Contains(list[1].Detail, "approve lease-x") || list[2].State != "disabled" {
		t.Errorf("%+v", list[1:])
	}
	if got, err := c.Approve(t.Context(), "02:00:00:00:00:20"); err != nil || len(got.Leases) != 1 || got.Unknown {
		t.Error(got, err)
	}
	if got, err := c.Deny(t.Context(), "odd/name?"); err != nil || got.Leases == nil || len(got.Leases) != 0 || !got.Unknown {
		t.Error(got, err)
	}
	if list, err := c.Verdicts(t.Context()); err != nil || len(list) != 2 || list[1] != (Verdict{Device: "odd/name?", Verdict: "denied"}) {
		t.Error(list, err)
	}
	if gone, err := c.Forget(t.Context(), "odd/name?"); err != nil || len(gone) != 1 || gone[0] != (Verdict{Device: "odd/name?", Network: "udp", Port: 3074, Verdict: "approved"}) {
		t.Error(gone, err)
	}
	if _, err := c.Forget(t.Context(), "nobody"); !errors.Is(err, ErrNoLease) && err == nil {
		t.Error("nobody was forgotten")
	}
	var refused *Error
	if _, err := c.Deny(t.Context(), "nobody"); !errors.As(err, &refused) || refused.Code != CodeNotFound || refused.Hint == "" {
		t.Error(err)
	}
}

func TestLeaseThatIsOver(t *testing.T) {
	f := mustForward(t, "lease", "udp/203.0.113.5:1", "192.168.1.20:1")
	f.Lease, f.Expires = &forward.Lease{}, time.Now().Add(-time.Minute)
	if l := LeaseOf(table.Status{Forward: f}, time.Now()); *l.Remaining != 0 {
		t.Errorf("%d", *l.Remaining)
	}
}
