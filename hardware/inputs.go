package hardware

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/warthog618/go-gpiocdev"
)

// countEvery is how often an encoder that counts is read. In between the kernel counts on its own.
const countEvery = 50 * time.Millisecond

// Sensors are the inputs of a real car. While nothing moves they make no wake-ups.
type Sensors struct {
	report  func(sensor int, value float64)
	failed  chan error
	closing chan struct{}
	running sync.WaitGroup

	lines    []*edgeLine
	triggers []*gpiocdev.Line
	lookout  *lookout // nil without sensors of distance
}

// OpenSensors takes the sensors' lines, which are named as OpenLines tells and may be on any chip, and calls report
// with what they read, from now on, on goroutines of its own. What only the simulation knows is left out.
//   - A contact is reported at once, now and at each edge. A debounce delays that: the kernel waits until the line has
//     been still for so long. One that only stops the car needs none.
//   - An encoder's pulses are counted where they begin, by the kernel, which numbers them: how often we look does not
//     matter.
//   - A sensor of distance is read while the car is driven, see [Sensors.Watch].
func OpenSensors(sensors []Sensor, report func(sensor int, value float64)) (*Sensors, error) {
	s := &Sensors{report: report, failed: make(chan error, 1), closing: make(chan struct{})}
	if err := s.open(sensors); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Sensors) open(sensors []Sensor) error {
	var chips []*gpiocdev.Chip
	defer func() { closeChips(chips) }()
	var sonars []*sonar
	for i := range sensors {
		cfg := &sensors[i]
		if cfg.Kind == Truth {
			continue
		}
		if chips == nil {
			var err error
			if chips, err = openChips(); err != nil {
				return err
			}
		}
		sonar, err := s.openSensor(chips, i, cfg)
		if err != nil {
			return fmt.Errorf("sensor %q: %w", cfg.Name, err)
		}
		if sonar != nil {
			sonars = append(sonars, sonar)
		}
	}
	if len(sonars) > 0 {
		s.lookout = newLookout(sonars, s.report)
		s.start(func() error { return s.lookout.run(s.closing) })
	}
	return nil
}

// openSensor opens one sensor, and starts it unless it is a sonar.
func (s *Sensors) openSensor(chips []*gpiocdev.Chip, i int, cfg *Sensor) (*sonar, error) {
	role := "line"
	if cfg.Kind == Distance {
		role = "echo"
	}
	chip, offset, err := findLine(chips, cfg.Line)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", role, err)
	}
	line, active, err := openEdges(chip, offset, cfg)
	if err != nil {
		return nil, describe(err, chip, []Output{{Role: role, Line: cfg.Line}}, []int{offset})
	}
	s.lines = append(s.lines, line)
	switch cfg.Kind {
	case Contact:
		s.report(i, level(active))
		s.start(func() error { return s.feel(i, cfg.Name, line) })
	case Encoder:
		s.start(func() error { return s.tally(i, cfg.Name, line) })
	case Distance:
		chip, offset, err := findLine(chips, cfg.Trigger)
		if err != nil {
			return nil, fmt.Errorf("trigger: %w", err)
		}
		trigger, err := chip.RequestLine(offset, gpiocdev.AsOutput(0), gpiocdev.WithConsumer(consumer))
		if err != nil {
			return nil, describe(err, chip, []Output{{Role: "trigger", Line: cfg.Trigger}}, []int{offset})
		}
		s.triggers = append(s.triggers, trigger)
		where := fmt.Sprintf("line %q of %s", cfg.Trigger, chip.Label)
		return &sonar{sensor: i, name: cfg.Name, pinger: &hcsr04{trigger, where, line}}, nil
	}
	return nil, nil
}

// Watch is told whether the car is driven. Sensors of distance look while it is, and for some seconds more; what they
// tell at other times is Unknown. It never blocks.
func (s *Sensors) Watch(driven bool) {
	if s.lookout != nil {
		s.lookout.watch(driven)
	}
}

// Failed has an error when a sensor's line has failed. It is not read any more.
func (s *Sensors) Failed() <-chan error { return s.failed }

// Close gives the lines back. Nothing is reported any more when it returns.
func (s *Sensors) Close() (err error) {
	close(s.closing)
	for _, l := range s.lines {
		err = errors.Join(err, l.file.Close())
	}
	s.running.Wait()
	for _, l := range s.triggers {
		err = errors.Join(err, l.Close())
	}
	return err
}

// start runs what reads a sensor until it fails, or its line is closed.
func (s *Sensors) start(read func() error) {
	s.running.Go(func() {
		if err := read(); err != nil && !errors.Is(err, os.ErrClosed) {
			select {
			case s.failed <- err:
			default: // the first says enough
			}
		}
	})
}

// feel reports a contact's edges.
func (s *Sensors) feel(i int, name string, line *edgeLine) error {
	for {
		edges, err := line.read()
		if err != nil {
			return fmt.Errorf("sensor %q: %w", name, err)
		}
		for _, e := range edges {
			s.report(i, level(e.active))
		}
	}
}

// tally reports an encoder's count. While it rests the edges pile up in the kernel, and what does not find room there
// is still in the number of the newest.
func (s *Sensors) tally(i int, name string, line *edgeLine) error {
	var count uint64
	var last uint32
	for {
		edges, err := line.read()
		if err != nil {
			return fmt.Errorf("sensor %q: %w", name, err)
		}
		newest := edges[len(edges)-1].seq
		count += uint64(newest - last) // which is right also when the kernel's number wraps
		last = newest
		s.report(i, float64(count))
		select {
		case <-s.closing:
			return nil
		case <-time.After(countEvery):
		}
	}
}

func level(active bool) float64 {
	if active {
		return 1
	}
	return 0
}
