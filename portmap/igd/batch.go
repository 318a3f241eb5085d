package igd

import (
	"context"

	"github.com/fairlead-net/fairlead/portmap"
)

// maxBatch is how many requests go to the desk in one change of the system.
const maxBatch = 256

// A batch puts requests that come at the same time together, since a change of the system costs the same for many as for one.
// While the desk is busy with some, the next ones gather.
type batch struct {
	desk portmap.Desk
	jobs chan job
}

type job struct {
	request portmap.Request
	done    chan<- portmap.Result // with room for one
}

func (b *batch) init(desk portmap.Desk) {
	b.desk, b.jobs = desk, make(chan job, maxBatch)
}

// do has one request made. It fails when the server ends meanwhile.
func (b *batch) do(ctx context.Context, r portmap.Request) portmap.Result {
	done := make(chan portmap.Result, 1)
	select {
	case b.jobs <- job{r, done}:
	case <-ctx.Done():
		return portmap.Result{Err: ctx.Err()}
	}
	select {
	case result := <-done:
		return result
	case <-ctx.Done():
		return portmap.Result{Err: ctx.Err()}
	}
}

func (b *batch) run(ctx context.Context) {
	jobs := make([]job, 0, maxBatch)
	requests := make([]portmap.Request, 0, maxBatch)
	for {
		jobs, requests = jobs[:0], requests[:0]
		select {
		case j := <-b.jobs:
			jobs = append(jobs, j)
		case <-ctx.Done():
			return
		}
	gather:
		for len(jobs) < maxBatch {
			select {
			case j := <-b.jobs:
				jobs = append(jobs, j)
			default:
				break gather
			}
		}
		for _, j := range jobs {
			requests = append(requests, j.request)
		}
		results := b.desk.Map(ctx, requests)
		for i, j := range jobs {
			result := portmap.Result{Err: portmap.ErrFailed}
			if i < len(results) {
				result = results[i]
			}
			j.done <- result
		}
	}
}
