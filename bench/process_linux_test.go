package main

import (
	"os"
	"os/exec"
	"testing"
)

func TestParseBusy(t *testing.T) {
	const stat = "cpu  100 20 300 4000 500 6 74 9 0 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n"
	if got, err := parseBusy(stat); err != nil || got != 5 {
		t.Errorf("busy for %v s, %v; want 5 s of user, nice, system and both kinds of interrupts", got, err)
	}
	for _, bad := range []string{"", "cpu 1 2 3\n", "cpu0 1 2 3 4 5 6 7 8\n", "cpu 1 2 3 4 5 x 7 8\n"} {
		if got, err := parseBusy(bad); err == nil {
			t.Errorf("%q is understood as %v s", bad, got)
		}
	}
}

// What is asked of a process tree includes the processes that it has started.
func TestProcessTree(t *testing.T) {
	child := exec.Command("cat") // which reads a pipe that nobody writes to
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close(); _ = child.Wait() }()
	for name, of := range map[string]func(int) (float64, error){"memory": resident, "descriptors": descriptors, "cpu": cpuTime} {
		self, err := of(os.Getpid())
		if err != nil || self <= 0 {
			t.Errorf("%s of this process: %v, %v", name, self, err)
		}
		if got, err := sumTree(os.Getpid(), of); err != nil || got <= 0 {
			t.Errorf("%s of this process and its child: %v, %v", name, got, err)
		}
	}
	tree, err := processTree(os.Getpid())
	if err != nil || len(tree) < 2 {
		t.Errorf("the tree is %v, %v, without the child %d", tree, err, child.Process.Pid)
	}
}
