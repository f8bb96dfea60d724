package hardware

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/warthog618/go-gpiocdev"
	"github.com/warthog618/go-gpiocdev/uapi"
	"golang.org/x/sys/unix"
)

// edgeLine is an input whose edges the kernel notes (GPIO uAPI v2, Documentation/userspace-api/gpio/chardev.rst).
//
// It is read here, by Go's own poller, and not by gpiocdev's event handlers: those hold a thread in the kernel for each
// request, and where a read fails, as it does once the chip is gone, they try again forever and tell nobody.
type edgeLine struct {
	file  *os.File
	where string // for errors
	buf   [edgeBuffer * edgeSize]byte
	edges []edge // backed by what the last read used
}

// edge is a change of a line's level.
type edge struct {
	at     time.Duration // on CLOCK_MONOTONIC
	active bool          // what the line has been since
	seq    uint32        // counts all edges of the line from 1, also those that nobody read in time
}

const (
	edgeSize = 48 // bytes of a struct gpio_v2_line_event
	// edgeBuffer is how many edges the kernel keeps for a line by default. When there are more it drops the oldest.
	edgeBuffer = 16
)

// openEdges requests a sensor's line as an input, and also returns whether it is active now. What changes after that is
// among the edges.
func openEdges(chip *gpiocdev.Chip, offset int, s *Sensor) (*edgeLine, bool, error) {
	request := uapi.LineRequest{Lines: 1}
	request.Offsets[0] = uint32(offset)
	copy(request.Consumer[:], consumer)
	flags := &request.Config.Flags
	*flags = uapi.LineFlagV2Input | uapi.LineFlagV2EdgeRising
	if s.Kind != Encoder {
		*flags |= uapi.LineFlagV2EdgeFalling
	}
	if s.ActiveLow {
		*flags |= uapi.LineFlagV2ActiveLow
	}
	switch s.Pull {
	case "up":
		*flags |= uapi.LineFlagV2BiasPullUp
	case "down":
		*flags |= uapi.LineFlagV2BiasPullDown
	case "off":
		*flags |= uapi.LineFlagV2BiasDisabled
	}
	if s.Debounce > 0 {
		request.Config.AddAttribute(uapi.LineConfigAttribute{
			Attr: uapi.DebouncePeriod(s.Debounce).Encode(), Mask: uapi.NewLineBitMask(1),
		})
	}
	device, err := unix.Open("/dev/"+chip.Name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, false, fmt.Errorf("GPIO chip /dev/%s: %w", chip.Name, err)
	}
	defer unix.Close(device)
	if err := uapi.GetLine(uintptr(device), &request); err != nil {
		return nil, false, err
	}
	fd := int(request.Fd)
	level := uapi.LineValues{Mask: uapi.NewLineBitMask(1)}
	if err = uapi.GetLineValuesV2(uintptr(fd), &level); err == nil {
		err = unix.SetNonblock(fd, true) // so that NewFile gives it to the poller
	}
	if err != nil {
		unix.Close(fd)
		return nil, false, err
	}
	l := &edgeLine{file: os.NewFile(uintptr(fd), chip.Label), where: fmt.Sprintf("line %q of %s", s.Line, chip.Label)}
	return l, level.Get(0) == 1, nil
}

// read waits for edges and returns those that there are, at least one, valid until the next read.
func (l *edgeLine) read() ([]edge, error) {
	n, err := l.file.Read(l.buf[:])
	if err == nil && n < edgeSize {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l.where, err)
	}
	l.edges = l.edges[:0]
	for p := l.buf[:n]; len(p) >= edgeSize; p = p[edgeSize:] {
		l.edges = append(l.edges, edge{
			at:     time.Duration(binary.NativeEndian.Uint64(p)),
			active: uapi.LineEventID(binary.NativeEndian.Uint32(p[8:])) == uapi.LineEventRisingEdge,
			seq:    binary.NativeEndian.Uint32(p[20:]),
		})
	}
	return l.edges, nil
}
