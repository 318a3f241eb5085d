// Command bench measures Fairlead beside the programs that people use today, in one run and in turn, and writes a table, and
// the same as Markdown and JSON under bench/results. It needs Linux and root, makes its own network out of namespaces, and
// leaves nothing running.
//
// Its sections: a, what a forward costs the kernel's carrier; b, changes to many forwards; c, the relay beside nginx and HAProxy; d, how
// a program starts; e, tunnels beside OpenSSH's, Fairlead on either end and on both, and SOCKS beside Dante and microsocks; f, ports that a LAN asks for, beside miniupnpd; g, reverse
// tunnels beside frp, chisel and "ssh -R", over lines that lose packets and are cut as well. A peer of e, f or g that is not installed is left out, with a line that says so; one of the others has a row that failed.
//
// The figures of one machine mean little on another; the ratios mean more. See -help for what can be left out.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options are the flags.
type options struct {
	only       string
	rounds     int
	seconds    float64
	out        string
	quick      bool
	fairlead   string
	beside     string
	titles     string
	transports string
	limit      time.Duration
}

func main() {
	if len(os.Args) == 2 {
		if err, is := role(os.Args[1]); is {
			exit(err)
			return
		}
	}
	o := options{}
	flag.StringVar(&o.only, "only", "a,b,c,d,e,f,g",
		"`sections` to measure: a kernel carrier, b changes, c relay, d start, e ssh and proxies, f port mapping, g reverse tunnels")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds of each measurement; the figures are their medians")
	flag.Float64Var(&o.seconds, "seconds", 2, "length of one measurement")
	flag.StringVar(&o.out, "o", "bench/results", "`directory` for the results")
	flag.BoolVar(&o.quick, "quick", false, "two rounds of half a second, to see whether everything works; figures are worth little")
	flag.StringVar(&o.fairlead, "fairlead", "",
		"measure this `program`, do not build bin/fairlead; \"none\": measure the others only")
	flag.StringVar(&o.beside, "beside", "", "measure this fairlead, too: the `program` before a change beside the one after it")
	flag.StringVar(&o.titles, "tables", "", "of the workloads of c, e, f and g only those whose titles have this `text` in them")
	flag.StringVar(&o.transports, "transports", "", "of g: measure fairlead by each of these `transports` by itself, too: quic,tls,wss")
	flag.DurationVar(&o.limit, "limit", 45*time.Minute, "give up after this time, with what was measured until then")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "bench: %q is not understood; everything is a flag, see -help\n", flag.Arg(0))
		os.Exit(2)
	}
	if o.quick {
		o.rounds, o.seconds = 2, 0.5
	}
	if o.rounds < 1 || o.seconds < 0.1 || o.seconds > 10 {
		fmt.Fprintln(os.Stderr, "bench: rounds is 1 or more, seconds 0.1 to 10")
		os.Exit(2)
	}
	for s := range strings.SplitSeq(o.only, ",") {
		if !slices.Contains([]string{"a", "b", "c", "d", "e", "f", "g"}, strings.TrimSpace(s)) {
			fmt.Fprintf(os.Stderr, "bench: there is no section %q; they are a to g\n", s)
			os.Exit(2)
		}
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	context.AfterFunc(ctx, cancel) // a second Ctrl-C ends the program at once; what it started gets SIGTERM from the kernel
	ctx, cancelLimit := context.WithTimeout(ctx, o.limit)
	defer cancelLimit()
	exit(run(ctx, o))
}

// wants reports whether a section was asked for.
func (o options) wants(section string) bool {
	for s := range strings.SplitSeq(o.only, ",") {
		if strings.TrimSpace(s) == section {
			return true
		}
	}
	return false
}

// errFailed is for failures that the table has already told.
var errFailed = errors.New("some measurements failed; see the table")

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}
