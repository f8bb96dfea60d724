package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"

	"roverd/hardware"
)

// This file is all that the server says in version 1 of the protocol but for refusals, and the only place that knows how it
// spells that.

const protocol = 1

// welcome is a viewer's first message, ready but for the viewer's name: a crowd that arrives at once is served by
// copying.
type welcome struct {
	head, tail []byte
}

func newWelcome(as role, ttl time.Duration, helm, car, camera string) welcome {
	const name = "?"
	m := encode(struct {
		Op       string `json:"op"`
		Protocol int    `json:"protocol"`
		ID       string `json:"id"`
		Role     role   `json:"role"`
		TTL      int64  `json:"ttl_ms"`
		Helm     string `json:"helm"` // one or shared
		Car      string `json:"car"`
		// Camera is the address of the picture, in which HOST stands for the host that the page came from.
		Camera string `json:"camera_url"`
	}{"welcome", protocol, name, as, ttl.Milliseconds(), helm, car, camera})
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
	Name    string       `json:"driver_name,omitempty"`
	Claim   string       `json:"claim,omitempty"` // who asks for the helm
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

// appendID goes on with the id of the message that is answered, if it had one.
func appendID(dst []byte, id int64) []byte {
	if id == noID {
		return dst
	}
	return strconv.AppendInt(append(dst, `,"id":`...), id, 10)
}

// appendResult appends the ack or error that tells a client what became of its command to the car.
func appendResult(dst []byte, id int64, r hardware.Result) []byte {
	if r.Err != nil {
		return appendError(dst, id, r.Err)
	}
	dst = appendID(append(dst, `{"op":"ack"`...), id)
	dst = append(dst, `,"seq":`...)
	dst = strconv.AppendUint(dst, r.Seq, 10)
	dst = append(dst, `,"applied":`...)
	dst = strconv.AppendBool(dst, r.Applied)
	dst = append(dst, `,"us":`...)
	dst = strconv.AppendInt(dst, int64(r.Took/time.Microsecond), 10)
	return append(dst, '}')
}

// appendDone appends the ack of what is not for the car: it is done, or will be after a wait at the latest.
func appendDone(dst []byte, id int64, wait time.Duration) []byte {
	dst = appendID(append(dst, `{"op":"ack"`...), id)
	if wait > 0 {
		return fmt.Appendf(dst, `,"applied":false,"ms":%d}`, wait.Milliseconds())
	}
	return append(dst, `,"applied":true}`...)
}

// appendState appends the state, as its publisher has encoded it, in answer to who asks.
func appendState(dst []byte, id int64, state []byte) []byte {
	const head = `{"op":"state"`
	return append(appendID(append(dst, head...), id), state[len(head):]...)
}

func appendPong(dst []byte, id int64) []byte {
	return append(appendID(append(dst, `{"op":"pong"`...), id), '}')
}

// appendRole appends the ack of a token.
func appendRole(dst []byte, id int64, r role) []byte {
	dst = appendID(append(dst, `{"op":"ack"`...), id)
	return fmt.Appendf(dst, `,"applied":true,"role":%q}`, r)
}

// encodeClaim tells the driver that it is asked for the helm.
func encodeClaim(from, name string, wait time.Duration) []byte {
	return encode(struct {
		Op   string `json:"op"`
		From string `json:"from"`
		Name string `json:"name,omitempty"`
		MS   int64  `json:"ms"` // until it goes through by itself; a driver who drives meanwhile may have longer
	}{"claim", from, name, wait.Milliseconds()})
}

// viewerName is how the viewer with a number is called on the wire and in the log.
func viewerName(id uint64) string { return "v" + strconv.FormatUint(id, 10) }
