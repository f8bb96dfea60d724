package hardware

import "time"

// channel is one line of a pulser: what it is to do, and when its level changes.
type channel struct {
	period time.Duration // zero is a line without pulses
	whole  bool          // see Output
	offset time.Duration // of its pulses, among those of its kind

	on    bool          // what is wanted: on all the time,
	high  time.Duration // or for so long in each period, or, when neither, off
	level int
	start time.Time // of the period at hand; in the pause between whole pulses, of the next one
	edge  time.Time // when level changes next; zero for never
}

// want sets what the channel is to do: value is the share of its period for which it is on. It tells whether pulses
// begin with that.
func (c *channel) want(value float64) (begins bool) {
	pulsed := c.high > 0
	c.on, c.high = value >= 1 || value > 0 && c.period == 0, 0
	if !c.on && value > 0 {
		c.high = time.Duration(value * float64(c.period))
	}
	return !pulsed && c.high > 0
}

// begin gives the pulses their place in time: in step with other, or at once if that is nil.
func (c *channel) begin(other *channel, now time.Time) {
	if c.whole && c.start.After(now) {
		now = c.start // the pause behind the last pulse is whole, too
	}
	c.start = now
	if other == nil {
		return
	}
	into := now.Sub(other.start.Add(c.offset-other.offset)) % c.period // below 0 when other waits for its turn
	if c.start = now.Add(-into); c.whole && into > 0 {
		c.start = c.start.Add(c.period)
	}
}

// turn brings the channel to now.
func (c *channel) turn(now time.Time) {
	if c.whole && c.level == 1 && !c.edge.IsZero() {
		if now.Before(c.edge) {
			return
		}
		// Periods that were missed are left out, so that the pulses stay in step.
		if late := now.Sub(c.start); late >= 0 {
			c.start = c.start.Add(late - late%c.period + c.period)
		}
	}
	c.level, c.edge = 0, time.Time{}
	switch {
	case c.on:
		c.level = 1
	case c.high == 0:
	case !c.whole: // has the level that it has at this time of its period, however late this is
		into := now.Sub(c.start) % c.period
		if c.edge = now.Add(c.period - into); into < c.high {
			c.level, c.edge = 1, now.Add(c.high-into)
		}
	case now.Before(c.start):
		c.edge = c.start
	default: // a pulse's width matters, not when it comes
		c.level, c.edge = 1, now.Add(c.high)
	}
}

// pulsing tells whether a pulse is under way that must have its width.
func (c *channel) pulsing() bool { return c.whole && c.level == 1 && !c.edge.IsZero() }
