package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"roverd/hardware"
)

// This file is the wire protocol, version 1: the only place that knows how a command or a reply is spelled.

const (
	protocol   = 1
	maxMessage = 4 << 10 // bytes of a client's message
)

// words maps the words to the command they stand for at full speed, or for one degree. The first ten are a promise to
// every script that was ever written for the car: none of them changes.
var words = map[string]hardware.Command{
	"up":        {Kind: hardware.Drive, Left: 1, Right: 1},
	"back":      {Kind: hardware.Drive, Left: -1, Right: -1},
	"left":      {Kind: hardware.Drive, Left: -1, Right: 1},
	"right":     {Kind: hardware.Drive, Left: 1, Right: -1},
	"stop":      {Kind: hardware.Stop},
	"cam_up":    {Kind: hardware.Turn, Tilt: 1},
	"cam_down":  {Kind: hardware.Turn, Tilt: -1},
	"cam_left":  {Kind: hardware.Turn, Pan: -1},
	"cam_right": {Kind: hardware.Turn, Pan: 1},
	"cam_init":  {Kind: hardware.Centre},
	"estop":     {Kind: hardware.EStop},
	"reset":     {Kind: hardware.Reset},
}

const wordList = "up back left right stop cam_up cam_down cam_left cam_right cam_init estop reset"

// Codes of refusals that other files know the reason of.
const (
	notAllowed = "not_allowed"
	notDriver  = "not_driver"
	isBinary   = "binary"
)

// wireError is a refusal as the client sees it.
type wireError struct {
	code, message string
}

func (e *wireError) Error() string { return e.message }

// parseCommand reads a client's message: a word, and perhaps a number (percent for driving, degrees for the camera, of
// which camStep are turned without one).
func parseCommand(p []byte, camStep float64) (hardware.Command, error) {
	word, number, hasNumber := bytes.Cut(bytes.TrimSpace(p), []byte(" "))
	cmd, ok := words[string(word)]
	if !ok {
		return cmd, &wireError{"unknown_command", fmt.Sprintf("unknown command %s; the commands are: %s", quote(p), wordList)}
	}
	amount := 100.0
	switch cmd.Kind {
	case hardware.Turn:
		amount = camStep
	case hardware.Stop, hardware.EStop, hardware.Reset, hardware.Centre:
		if hasNumber {
			return cmd, &wireError{"bad_value", fmt.Sprintf("%s takes no number, but got %s", word, quote(number))}
		}
	}
	if hasNumber {
		var err error
		number = bytes.TrimSpace(number)
		if amount, err = strconv.ParseFloat(string(number), 64); err != nil || math.IsNaN(amount) || math.IsInf(amount, 0) {
			return cmd, &wireError{"bad_value", fmt.Sprintf("%s %s: the second part must be a number, as in \"up 60\" (percent) or \"cam_up 5\" (degrees)", word, quote(number))}
		}
	}
	if cmd.Kind == hardware.Drive {
		amount = min(max(amount/100, 0), 1)
	}
	cmd.Left *= amount
	cmd.Right *= amount
	cmd.Pan *= amount
	cmd.Tilt *= amount
	return cmd, nil
}

// quote shows a client's input in an error, cut to what is worth reading.
func quote(p []byte) string {
	const most = 40
	s := strings.ToValidUTF8(string(p[:min(len(p), most)]), "?")
	if len(p) > most {
		return strconv.Quote(s) + "..."
	}
	return strconv.Quote(s)
}

// welcome is a viewer's first message, ready but for the viewer's name: a crowd that arrives at once is served by
// copying.
type welcome struct {
	head, tail []byte
}

func newWelcome(role string, ttl time.Duration, car, camera string) welcome {
	const name = "?"
	m := encode(struct {
		Op       string `json:"op"`
		Protocol int    `json:"protocol"`
		ID       string `json:"id"`
		Role     string `json:"role"` // control or view
		TTL      int64  `json:"ttl_ms"`
		Car      string `json:"car"`
		// Camera is the address of the picture, in which HOST stands for the host that the page came from.
		Camera string `json:"camera_url"`
	}{"welcome", protocol, name, role, ttl.Milliseconds(), car, camera})
	head, tail, _ := bytes.Cut(m, []byte(name))
	return welcome{head, tail}
}

func (w *welcome) append(dst []byte, id uint64) []byte {
	return append(append(append(dst, w.head...), viewerName(id)...), w.tail...)
}

type stateMessage struct {
	Op      string       `json:"op"`
	Seq     uint64       `json:"seq"`
	Driver  string       `json:"driver"` // empty when the helm is free
	Motion  motion       `json:"motion"`
	Camera  *cameraState `json:"camera,omitempty"`
	Estop   bool         `json:"estop"`
	Cause   string       `json:"cause"`
	Viewers int64        `json:"viewers"`
	Fault   string       `json:"fault,omitempty"`
	Lines   readings     `json:"lines"`
	Sensors readings     `json:"sensors"`
}

type motion struct {
	Left  float64 `json:"left"`
	Right float64 `json:"right"`
}

type cameraState struct {
	Pan  float64 `json:"pan"`
	Tilt float64 `json:"tilt"`
}

// readings are numbers by name. As JSON they are one object, in their order; what is not known is null.
type readings struct {
	names  []string // as in left.forward
	values [max(hardware.MaxOutputs, hardware.MaxSensors)]float64
}

func (r readings) MarshalJSON() ([]byte, error) {
	p := []byte{'{'}
	for i, name := range r.names {
		if i > 0 {
			p = append(p, ',')
		}
		p = append(strconv.AppendQuote(p, name), ':')
		if v := r.values[i]; math.IsInf(v, 0) {
			p = append(p, "null"...)
		} else {
			p = strconv.AppendFloat(p, round(v), 'f', -1, 64)
		}
	}
	return append(p, '}'), nil
}

// setCar writes the car's own part of the state.
func (m *stateMessage) setCar(s hardware.State, car *hardware.Car) {
	m.Seq, m.Motion, m.Estop, m.Cause, m.Fault = s.Seq, motion{round(s.Left), round(s.Right)}, s.EStop, s.Cause, s.Fault
	if car.Config().Servos() {
		m.Camera = &cameraState{round(s.Pan), round(s.Tilt)}
	}
	m.Lines.names, m.Sensors.names = car.Roles(), car.Sensors()
	copy(m.Lines.values[:], s.Outputs[:])
	copy(m.Sensors.values[:], s.Sensors[:])
}

// round leaves three decimals, which is more than any motor can tell apart, and no -0.
func round(v float64) float64 { return math.Round(v*1000)/1000 + 0 }

func encode(message any) []byte {
	p, err := json.Marshal(message)
	if err != nil {
		panic(err) // our own structs of strings and finite numbers
	}
	return p
}

// appendResult appends the ack or error that tells a client what became of its command.
func appendResult(dst []byte, r hardware.Result) []byte {
	if r.Err != nil {
		return appendError(dst, r.Err)
	}
	dst = append(dst, `{"op":"ack","seq":`...)
	dst = strconv.AppendUint(dst, r.Seq, 10)
	dst = append(dst, `,"applied":`...)
	dst = strconv.AppendBool(dst, r.Applied)
	dst = append(dst, `,"us":`...)
	dst = strconv.AppendInt(dst, int64(r.Took/time.Microsecond), 10)
	return append(dst, '}')
}

func appendError(dst []byte, err error) []byte {
	code := "failed"
	var refusal *wireError
	switch {
	case errors.As(err, &refusal):
		code = refusal.code
	case errors.Is(err, hardware.ErrStale):
		code = "stale"
	case errors.Is(err, hardware.ErrNoCamera):
		code = "no_camera"
	case errors.Is(err, hardware.ErrBusy):
		code = "busy"
	case errors.Is(err, hardware.ErrEStop):
		code = "estop"
	case errors.Is(err, hardware.ErrBlocked):
		code = "blocked"
	case errors.Is(err, hardware.ErrOff):
		code = "off"
	}
	return append(dst, encode(struct {
		Op      string `json:"op"`
		Code    string `json:"code"`
		Message string `json:"message"`
	}{"error", code, err.Error()})...)
}

// viewerName is how a viewer is called on the wire and in the log; nobody has the number 0.
func viewerName(id uint64) string {
	if id == 0 {
		return ""
	}
	return "v" + strconv.FormatUint(id, 10)
}
