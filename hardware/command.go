package hardware

import (
	"errors"
	"time"
)

// Kind is what a command asks for.
type Kind uint8

const (
	Drive  Kind = iota // run the motors at Left and Right until TTL has passed
	Stop               // stop the motors
	EStop              // stop the motors, and refuse to drive until Reset
	Reset              // end an EStop
	Look               // point the camera to Pan and Tilt
	Turn               // turn the camera by Pan and Tilt
	Centre             // point the camera home
)

// Command is one order to the car.
type Command struct {
	Kind        Kind
	Left, Right float64       // Drive: -1 (full speed back) to 1 (full speed ahead)
	Pan, Tilt   float64       // Look, Turn: degrees; right and up are positive
	TTL         time.Duration // Drive: how long after At the motors may run on it; the car's own when zero
	At          time.Time     // when the command was read; its age counts from here
	Cause       string        // Stop: why, when it is not somebody's wish
	From        Sender        // is told the outcome; may be nil
	Tag         int64         // the sender's own
}

// Sender hears what became of its commands.
type Sender interface {
	// Done is called exactly once per command, on the car's goroutine or on the one that called Do. It must not block.
	Done(Command, Result)
}

// Result is the outcome of a command.
type Result struct {
	Applied bool          // false without Err: a newer command overtook it
	Err     error         // why it was refused
	Seq     uint64        // of the state that it led to
	Took    time.Duration // from Command.At to the return of the call that moved the lines
}

// Reasons to refuse a command.
var (
	ErrStale    = errors.New("the command is older than its time to live")
	ErrNoCamera = errors.New("this car has no camera servos configured")
	ErrBusy     = errors.New("too many camera commands are waiting")
	ErrLate     = errors.New("the board is too busy: the car did not stop in time, and its guard stopped it; send the command again")
	ErrEStop    = errors.New("the emergency stop holds the car: send reset to drive again")
	ErrBlocked  = errors.New("a sensor forbids to drive ahead")
	ErrOff      = errors.New("the car is switched off")
)
