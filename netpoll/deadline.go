package netpoll

import "time"

// Deadlines cost a connection four bytes and no timer: while any is set, one timerfd per loop ticks, and each tick
// sweeps them, in slices, so that a large crowd does not hold up the events in between. They stand in an array of their
// own: a sweep over a million connections that are not due reads 4 MB in order, and touches none of them.

func (l *Loop) startTicks() {
	if l.ticking {
		return
	}
	if err := setTimer(l.timer, l.cfg.Tick); err != nil {
		l.warn(err)
		return
	}
	l.ticking = true
}

func (l *Loop) onTick() {
	var count [8]byte
	read(l.timer, count[:])
	if !l.sweeping {
		l.sweeping = true
		l.sweep(0)
	}
}

// tick returns the number of the tick that runs. It comes from the clock and not from counting the timer's, which are
// late when the loop is. It begins at 1, since 0 stands for no deadline.
func (l *Loop) tick() uint32 { return uint32(time.Since(l.start)/l.cfg.Tick) + 1 }

// after returns the tick by which d has passed: the one that runs is partly over.
func (l *Loop) after(d time.Duration) uint32 {
	return l.tick() + uint32((d+l.cfg.Tick-1)/l.cfg.Tick) + 1
}

func (l *Loop) sweep(from int) {
	now := l.tick()
	to := min(from+sweepSize, len(l.due))
	expired := 0
	for slot := from; slot < to; slot++ {
		if due := l.due[slot]; due == 0 || int32(due-now) > 0 {
			continue
		}
		if expired++; expired == expireSize {
			to = slot + 1
		}
		c := l.conns[slot]
		c.clearDeadline()
		if c.state == closed {
			continue
		}
		if c.state != open {
			if !c.linger() {
				c.Close(nil)
			}
			continue
		}
		l.corked = c
		c.handler.Expired(c)
		l.uncork()
		if expired%passEvery == 0 {
			l.Pass()
		}
	}
	if to < len(l.due) {
		l.Post(func() { l.sweep(to) })
		return
	}
	l.sweeping = false
	if l.deadlines == 0 {
		l.ticking = false
		if err := setTimer(l.timer, 0); err != nil {
			l.warn(err)
		}
	}
}
