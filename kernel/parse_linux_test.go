package kernel

import (
	"net/netip"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
)

// FuzzAnswers feeds the parsers of the kernel's answers with anything.
func FuzzAnswers(f *testing.F) {
	e := element{set: setID{network: forward.TCP, Shape: forward.Shape{Ports: forward.PortExact}}, key: []byte{6, 0, 0, 0, 0, 80, 0, 0},
		data: []byte{192, 0, 2, 1, 0, 80, 0, 0}, owner: "web", counted: counter{1, 2}}
	f.Add(nested(3, appendElement(nil, e, true)))
	tuple := concat(nested(1, attr(1, []byte{192, 0, 2, 1}), attr(2, []byte{192, 0, 2, 2})),
		nested(2, attr(1, []byte{protoTCP}), attr(2, []byte{1, 2}), attr(3, []byte{0, 80})))
	f.Add(concat(nested(ctaTupleOrig, tuple), nested(ctaTupleReply, tuple), be32(ctaStatus, statusDstNAT), nested(ctaCountersOrig, be64(2, 7))))
	f.Add(keepRules()[1].message())
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _, _ = parseRule(b)
		eachElement(b, func(found) {})
		parseSession(b)
		_ = commentText(b)
		targetOf(b)
		interfaceName(b)
		_ = refusal("fuzz", nlMessage{data: b, flags: 0x200})
	})
}

func TestParseSession(t *testing.T) {
	tuple := func(src, dst byte) []byte {
		return concat(nested(1, attr(1, []byte{192, 0, 2, src}), attr(2, []byte{192, 0, 2, dst})),
			nested(2, attr(1, []byte{protoTCP}), attr(2, []byte{1, 2}), attr(3, []byte{0, 80})))
	}
	s, ok := parseSession(concat(nested(ctaTupleOrig, tuple(1, 2)), nested(ctaTupleReply, tuple(3, 1)),
		be32(ctaStatus, statusDstNAT), nested(ctaCountersOrig, be64(2, 7)), nested(ctaCountersReply, be64(2, 9)), be32(ctaID, 5)))
	if !ok || !s.translated() || s.network != forward.TCP || s.in != 7 || s.out != 9 || s.id != 5 ||
		s.client != netip.MustParseAddrPort("192.0.2.1:258") || s.listened != netip.MustParseAddrPort("192.0.2.2:80") ||
		s.target != netip.MustParseAddrPort("192.0.2.3:258") {
		t.Errorf("got %+v", s)
	}
}

func TestSubtract(t *testing.T) {
	f := mustForward(t, "f", "80", "192.0.2.1", func(f *forward.Forward) {
		f.Except = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/1"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("255.255.255.255/32")}
	})
	var got []string
	compileForward(f, func(e element) {
		if e.set.role == roleDNAT {
			got = append(got, elementText(e))
		}
	})
	want := `128.0.0.0-255.255.255.254 . 80 comment "f" : 192.0.2.1 . 80`
	if len(got) != 1 || got[0] != want {
		t.Errorf("got %q, expected %q", got, want)
	}
}
