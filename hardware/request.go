package hardware

import (
	"fmt"
	"os"
	"sync/atomic"

	"github.com/warthog618/go-gpiocdev"
	"github.com/warthog618/go-gpiocdev/uapi"
	"golang.org/x/sys/unix"
)

// request is lines of one chip that were requested together: in the kernel, a descriptor. The guard has it too, which
// is why these are not go-gpiocdev's Lines: those keep it to themselves.
type request struct {
	fd    int
	lines int
	until *atomic.Uint32 // what the guard's page says; nil without a guard
}

// requestLines takes lines as outputs, all off. Those of low are on when their level is low.
func requestLines(chip *gpiocdev.Chip, offsets []int, low uapi.LineBitmap) (*request, error) {
	fd, err := unix.Open("/dev/"+chip.Name, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("open", err)
	}
	defer unix.Close(fd)
	r := uapi.LineRequest{Lines: uint32(len(offsets))}
	for i, offset := range offsets {
		r.Offsets[i] = uint32(offset)
	}
	copy(r.Consumer[:len(r.Consumer)-1], fmt.Sprintf("%s %d", consumer, os.Getpid()))
	r.Config.Flags = uapi.LineFlagV2Output
	if low != 0 {
		r.Config.AddAttribute(uapi.LineConfigAttribute{Attr: (uapi.LineFlagV2Output | uapi.LineFlagV2ActiveLow).Encode(), Mask: low})
	}
	if err := uapi.GetLine(uintptr(fd), &r); err != nil {
		return nil, err
	}
	return &request{fd: int(r.Fd), lines: len(offsets)}, nil
}

// SetValues sets all lines in one step (GPIO_V2_LINE_SET_VALUES_IOCTL). Lines that the guard has taken stay off: the
// actor may stand still, and the thread that makes its pulses go on.
func (r *request) SetValues(values []int) error {
	if r.until != nil && r.until.Load() == taken {
		return r.off()
	}
	return r.set(uapi.NewLineBitmap(values...))
}

// off switches all lines off.
func (r *request) off() error { return r.set(0) }

func (r *request) set(values uapi.LineBitmap) error {
	return uapi.SetLineValuesV2(uintptr(r.fd), uapi.LineValues{Bits: values, Mask: uapi.NewLineBitMask(r.lines)})
}

func (r *request) Close() error { return unix.Close(r.fd) }
