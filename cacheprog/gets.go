package cacheprog

import "sync"

// A queuedGet is a get that waits for one of the goroutines that call Get.
type queuedGet struct {
	id     int64
	action ActionID
}

// A getQueue runs gets on a limited number of goroutines, which it starts as it needs them and keeps until it is closed. The
// queue is not bounded: the go command waits for each of its gets, and has one under way for each worker.
type getQueue struct {
	run func(queuedGet)
	max int // of goroutines

	mu      sync.Mutex
	more    sync.Cond // the queue has grown, or has been closed
	queue   []queuedGet
	head    int // of queue; what is before it has been taken
	workers int
	idle    int // of workers, those that wait and have not been promised a get
	closed  bool
	ended   sync.WaitGroup // of workers
}

func (q *getQueue) init(limit int, run func(queuedGet)) {
	if limit <= 0 {
		limit = defaultConcurrentGets
	}
	q.run, q.max, q.more.L = run, limit, &q.mu
}

// add queues a get.
func (q *getQueue) add(g queuedGet) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.head > len(q.queue)/2 && len(q.queue) == cap(q.queue) {
		q.queue = q.queue[:copy(q.queue, q.queue[q.head:])]
		q.head = 0
	}
	q.queue = append(q.queue, g)
	if q.idle > 0 {
		q.idle--
		q.more.Signal()
	} else {
		q.startLocked()
	}
}

// close waits until all gets have been run and the goroutines have ended. Nothing may be added any more.
func (q *getQueue) close() {
	q.mu.Lock()
	q.closed = true
	q.more.Broadcast()
	q.mu.Unlock()
	q.ended.Wait()
}

// startLocked starts a worker if there may be one more.
func (q *getQueue) startLocked() {
	if q.workers < q.max {
		q.workers++
		q.ended.Add(1)
		go q.work()
	}
}

// work runs gets until the queue is empty and closed, or until one of them ends the goroutine.
func (q *getQueue) work() {
	defer q.ended.Done()
	q.mu.Lock()
	defer q.mu.Unlock()
	defer func() {
		q.workers--
		if q.head < len(q.queue) { // a get has called runtime.Goexit
			q.startLocked()
		}
	}()
	for {
		for q.head == len(q.queue) {
			if q.closed {
				return
			}
			q.idle++
			q.more.Wait()
		}
		g := q.queue[q.head]
		q.head++
		if q.head == len(q.queue) {
			q.queue, q.head = q.queue[:0], 0
		}
		q.runUnlocked(g)
	}
}

// runUnlocked runs a get without mu.
func (q *getQueue) runUnlocked(g queuedGet) {
	q.mu.Unlock()
	defer q.mu.Lock()
	q.run(g)
}
