package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// processTree is a process and all that it has started, by their ids.
func processTree(pid int) ([]int, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil, err
	}
	tree := []int{pid}
	for _, file := range tasks {
		children, err := os.ReadFile(file)
		if err != nil {
			continue // a thread that has ended
		}
		for _, child := range strings.Fields(string(children)) {
			id, err := strconv.Atoi(child)
			if err != nil {
				return nil, err
			}
			more, err := processTree(id)
			if err != nil {
				return nil, err
			}
			tree = append(tree, more...)
		}
	}
	return tree, nil
}

// sumTree adds up something that can be asked of a process over a process and all that it has started.
func sumTree(pid int, of func(pid int) (float64, error)) (float64, error) {
	tree, err := processTree(pid)
	if err != nil {
		return 0, err
	}
	sum := 0.0
	for _, id := range tree {
		v, err := of(id)
		if err != nil {
			return 0, err
		}
		sum += v
	}
	return sum, nil
}

// resident is the resident memory of a process in kB. Pages that several processes share count for each, so that only
// differences of the sum over several are meaningful.
func resident(pid int) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			return strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 64)
		}
	}
	return 0, fmt.Errorf("process %d says nothing about its memory", pid)
}

// descriptors is how many file descriptors a process has open.
func descriptors(pid int) (float64, error) {
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return float64(len(open)), err
}

// cpuTime is what the threads of a process have run, in user and kernel mode, in seconds. It is the sum that utime and stime of
// proc_pid_stat(5) are made from, in nanoseconds where those count hundredths of a second.
func cpuTime(pid int) (float64, error) {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0, err
	}
	if len(tasks) == 0 {
		return 0, fmt.Errorf("process %d says nothing about its time on the processor: it has ended, or the kernel lacks SCHED_INFO", pid)
	}
	sum := 0.0
	for _, file := range tasks {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // a thread that has ended
		}
		ran, _, _ := strings.Cut(string(text), " ")
		ns, err := strconv.ParseFloat(ran, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", file, err)
		}
		sum += ns / 1e9
	}
	return sum, nil
}

// busyTime is what all processors of the machine together have worked since it started, in seconds, soft interrupts included,
// which no process is charged for when its kernel thread handles them. It counts in hundredths.
func busyTime() (float64, error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	return parseBusy(string(stat))
}

// parseBusy reads the first line of /proc/stat, see proc_stat(5): user nice system idle iowait irq softirq, then what is no work.
func parseBusy(stat string) (float64, error) {
	line, _, _ := strings.Cut(stat, "\n")
	fields := strings.Fields(line)
	if len(fields) < 8 || fields[0] != "cpu" {
		return 0, fmt.Errorf("/proc/stat begins with %q, and not with the sum over all processors", line)
	}
	const idle, iowait, ticks = 4, 5, 100 // USER_HZ is 100 on all that Go runs on
	sum := 0.0
	for i := 1; i < 8; i++ {
		v, err := strconv.ParseFloat(fields[i], 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/stat: %w", err)
		}
		if i != idle && i != iowait {
			sum += v
		}
	}
	return sum / ticks, nil
}
