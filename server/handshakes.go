package main

import (
	"crypto/tls"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"time"
)

const (
	handshakeTime    = 10 * time.Second // for all of a TLS handshake, from the connection on
	maxHandshakes    = 256              // at a time: each has a goroutine and some 50 KB; others wait in their loops
	maxOneHandshakes = 32               // of them from one address
)

// handshakes runs the TLS handshakes: so many at a time, so many of them from one address, the addresses in turn, so that
// no client, however slow, keeps the others out. Most of the time a handshake waits for the client; of those that do not,
// only as many as there are turns compute: a storm of newcomers leaves the loops and the car their processors.
type handshakes struct {
	config *tls.Config
	time   time.Duration
	turns  chan struct{}
	end    chan struct{} // closed by stop
	group  sync.WaitGroup

	mu      sync.Mutex
	running int
	sources map[netip.Prefix]*source
	ready   []*source // those of which another may begin
}

// source is an address with its handshakes.
type source struct {
	addr    netip.Prefix
	running int
	waiting []*handshake
	ready   bool
}

func newHandshakes(config *tls.Config) *handshakes {
	return &handshakes{
		config: config, time: handshakeTime, turns: make(chan struct{}, max(1, runtime.NumCPU()/2)),
		end: make(chan struct{}), sources: map[netip.Prefix]*source{},
	}
}

// add takes a handshake whose first record is there. Any goroutine may call it.
func (q *handshakes) add(h *handshake) {
	addr := network(h.from)
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.sources[addr]
	if s == nil {
		s = &source{addr: addr}
		q.sources[addr] = s
	}
	h.source = s
	s.waiting = append(s.waiting, h)
	q.settle(s)
	if len(q.ready) > 0 && q.running < maxHandshakes {
		q.running++
		q.group.Go(q.work)
	}
}

// remove forgets one whose connection has gone, if it still waits.
func (q *handshakes) remove(h *handshake) {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := h.source
	if i := slices.Index(s.waiting, h); i >= 0 {
		s.waiting = slices.Delete(s.waiting, i, i+1)
		q.settle(s)
	}
}

// settle puts a source to where it belongs now.
func (q *handshakes) settle(s *source) {
	ready := len(s.waiting) > 0 && s.running < maxOneHandshakes
	switch {
	case ready && !s.ready:
		q.ready = append(q.ready, s)
	case !ready && s.ready:
		i := slices.Index(q.ready, s)
		q.ready = slices.Delete(q.ready, i, i+1)
	}
	if s.ready = ready; len(s.waiting) == 0 && s.running == 0 {
		delete(q.sources, s.addr)
	}
}

// work runs one handshake after the other: a stack that has grown for one serves the next.
func (q *handshakes) work() {
	var h *handshake
	for {
		if h = q.next(h); h == nil {
			return
		}
		h.run()
	}
}

// next gives up the place of done, if that is not nil, and takes the next one, whose address then stands behind the others.
func (q *handshakes) next(done *handshake) *handshake {
	q.mu.Lock()
	defer q.mu.Unlock()
	if done != nil {
		done.source.running--
		q.settle(done.source)
	}
	if len(q.ready) == 0 {
		q.running--
		return nil
	}
	s := q.ready[0]
	q.ready, s.ready = q.ready[1:], false
	h := s.waiting[0]
	s.waiting = s.waiting[1:]
	s.running++
	q.settle(s)
	return h
}

// stop ends those that still wait for their clients, and returns when all have ended. The loops have by then.
func (q *handshakes) stop() {
	close(q.end)
	q.group.Wait()
}
