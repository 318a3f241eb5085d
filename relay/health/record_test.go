package health

import (
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var (
	errGone = errors.New("gone")
	noon    = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
)

// TestRecord plays what is heard of a target: r and f are sessions that reached it or failed, + and - are checks, o and x are
// questions to a target without one, c is the end of its check. Behind each sequence is the state that it leads to.
func TestRecord(t *testing.T) {
	for sequence, want := range map[string]State{
		"": Unknown, "r": Up, "f": Failing, "fr": Up, "rf": Failing, "+": Up,
		"-": Down, "r-": Failing, "r--": Failing, "r---": Down, "r--+": Up, "r--+--": Failing,
		"rf--": Failing, "rf---": Down, "f---": Down,
		"-+": Down, "-++": Up, "-+-+": Down, "-+-++": Up, "-r": Down, "-f": Down, "-fr+": Down,
		"fo": Up, "fx": Failing, "fxxo": Up, "rx": Up, "-c": Failing, "-co": Up, "-cx": Failing, "rc": Up,
	} {
		var r Record
		for _, heard := range sequence {
			switch heard {
			case 'r':
				r.Reached(noon)
			case 'f':
				r.Failed(noon, errGone)
			case '+':
				r.Checked(noon, nil)
			case '-':
				r.Checked(noon, errGone)
			case 'o':
				r.Retried(noon, nil)
			case 'x':
				r.Retried(noon, errGone)
			case 'c':
				r.CheckGone()
			}
		}
		if got := r.State(); got != want {
			t.Errorf("after %q the target is %v, want %v", sequence, got, want)
		}
		if _, err := r.Why(); (err != nil) != (want == Failing || want == Down) {
			t.Errorf("after %q the target is %v because of %v", sequence, want, err)
		}
	}
}

// TestRecordSince wants the time of a failure to be that of the first one, however much worse it gets.
func TestRecordSince(t *testing.T) {
	var r Record
	r.Reached(noon)
	for i := range 10 {
		r.Checked(noon.Add(time.Duration(i+1)*time.Second), errGone)
	}
	if since, _ := r.Why(); !since.Equal(noon.Add(time.Second)) {
		t.Errorf("down since %v", since)
	}
}

func TestNextQuestion(t *testing.T) {
	var r Record
	if got := r.NextCheck(5 * time.Second); got != 5*time.Second {
		t.Errorf("nothing is known: the next check is in %v", got)
	}
	if got := r.NextRetry(); got != 0 {
		t.Errorf("nothing is known: asked again in %v", got)
	}
	r.Failed(noon, errGone)
	if got := r.NextCheck(5 * time.Second); got != time.Second {
		t.Errorf("while it fails the next check is in %v", got)
	}
	for i, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		if got := r.NextRetry(); got != want*time.Second {
			t.Errorf("question %d is asked after %v, want %d s", i, got, want)
		}
		r.Retried(noon, errGone)
	}
	r.Retried(noon, nil)
	r.Failed(noon, errGone)
	if got := r.NextRetry(); got != time.Second {
		t.Errorf("the next failure is asked about after %v", got)
	}
}

func TestWeight(t *testing.T) {
	const ramp = 10 * time.Second
	var r Record
	r.Reached(noon)
	if got := r.Weight(noon, ramp); got != 1 {
		t.Errorf("a target that was never away weighs %v", got)
	}
	r.Failed(noon, errGone)
	r.Reached(noon)
	for after, want := range map[time.Duration]float64{0: leastWeight, ramp / 4: 0.25, ramp / 2: 0.5, ramp: 1, 9 * ramp: 1} {
		if got := r.Weight(noon.Add(after), ramp); got != want {
			t.Errorf("after %v a target that came back weighs %v, want %v", after, got, want)
		}
	}
	if got := r.Weight(noon, 0); got != 1 {
		t.Errorf("without slow start it weighs %v", got)
	}
	var joined Record
	joined.Joined(noon)
	joined.Reached(noon.Add(time.Second))
	if got := joined.Weight(noon.Add(ramp/2), ramp); got != 0.5 {
		t.Errorf("a target that joined weighs %v", got)
	}
}

// TestRestIsForAll wants one client at most to try a target in a rest's time.
func TestRestIsForAll(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r Rest
		now := noon
		r.Failed(now, errGone)
		tries := 0
		span := time.Duration(rapid.IntRange(1, 200).Draw(t, "seconds")) * time.Second
		for end := now.Add(span); now.Before(end); now = now.Add(100 * time.Millisecond) {
			if !r.On(now) {
				tries++
				r.Try(now)
				r.Failed(now, errGone)
			}
		}
		if most := 6 + int(span/lastWait); tries > most {
			t.Errorf("a target that refuses was tried %d times in %v", tries, span)
		}
	})
	var fresh Rest
	fresh.Try(noon)
	if fresh.On(noon) {
		t.Error("a target that never failed rests")
	}
}
