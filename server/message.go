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
	"unicode"
	"unicode/utf8"

	"roverd/hardware"
)

// This file is the wire protocol, version 1: the only place that knows how a command or a reply is spelled.

const (
	protocol   = 1
	maxMessage = 4 << 10 // bytes of a client's message
	maxName    = 32      // characters of a client's name
)

// op is what a message asks for.
type op uint8

const (
	opCar     op = iota // a command to the car
	opClaim             // ask for the helm
	opRelease           // give it back, or the claim up
	opGrant             // let the claimant have it
	opRefuse            // keep it
	opAuth              // show a token
	opName              // be called by a name
	opState             // be told the state
	opPing              // be answered
)

// request is a client's message.
type request struct {
	op   op
	car  hardware.Command
	id   int64   // for the answer; noID if it has none
	seq  int64   // of a drive command, counted by the client; noID if it has none
	sent float64 // by the client's clock, in milliseconds; NaN if it doesn't say
	text string  // the token, or the name
}

const noID = -1

// words maps the words to what they ask for: at full speed, or for one degree. The first ten are a promise to every script
// that was ever written for the car: none of them changes.
var words = map[string]request{
	"up":        {car: hardware.Command{Kind: hardware.Drive, Left: 1, Right: 1}},
	"back":      {car: hardware.Command{Kind: hardware.Drive, Left: -1, Right: -1}},
	"left":      {car: hardware.Command{Kind: hardware.Drive, Left: -1, Right: 1}},
	"right":     {car: hardware.Command{Kind: hardware.Drive, Left: 1, Right: -1}},
	"stop":      {car: hardware.Command{Kind: hardware.Stop}},
	"cam_up":    {car: hardware.Command{Kind: hardware.Turn, Tilt: 1}},
	"cam_down":  {car: hardware.Command{Kind: hardware.Turn, Tilt: -1}},
	"cam_left":  {car: hardware.Command{Kind: hardware.Turn, Pan: -1}},
	"cam_right": {car: hardware.Command{Kind: hardware.Turn, Pan: 1}},
	"cam_init":  {car: hardware.Command{Kind: hardware.Centre}},
	"estop":     {car: hardware.Command{Kind: hardware.EStop}},
	"reset":     {car: hardware.Command{Kind: hardware.Reset}},
	"claim":     {op: opClaim},
	"release":   {op: opRelease},
	"grant":     {op: opGrant},
	"refuse":    {op: opRefuse},
	"auth":      {op: opAuth},
	"name":      {op: opName},
	"state":     {op: opState},
	"ping":      {op: opPing},
}

const wordList = "up back left right stop cam_up cam_down cam_left cam_right cam_init estop reset claim release grant refuse auth name state ping"

// ops maps the names of JSON messages to what they ask for: the words that take no number, and these.
var ops = map[string]request{
	"drive": {car: hardware.Command{Kind: hardware.Drive}},
	"look":  {car: hardware.Command{Kind: hardware.Look}},
}

const opList = "drive look stop estop reset claim release grant refuse auth name state ping"

func init() {
	for word, r := range words {
		if r.op != opCar || stops(r.car.Kind) {
			ops[word] = r
		}
	}
}

// stops tells whether a command is about standing still: that needs no helm, only the right to control.
func stops(kind hardware.Kind) bool {
	return kind == hardware.Stop || kind == hardware.EStop || kind == hardware.Reset
}

// Codes of refusals, each of which PROTOCOL.md has a remedy for.
const (
	unknownCommand = "unknown_command"
	badJSON        = "bad_json"
	badValue       = "bad_value"
	isBinary       = "binary"
	tooFast        = "too_fast"
	badToken       = "bad_token"
	notAllowed     = "not_allowed"
	notDriver      = "not_driver"
	isClaimed      = "claimed"
	isRefused      = "refused"
	noClaim        = "no_claim"
	isStale        = "stale"
	isEStop        = "estop"
	isBlocked      = "blocked"
	noCamera       = "no_camera"
	isBusy         = "busy"
	isOff          = "off"
	hasFailed      = "failed"
	isClosed       = "closed" // the last word to a client that speaks lines
)

// wireError is a refusal as the client sees it.
type wireError struct {
	code, message string
}

func (e *wireError) Error() string { return e.message }

func refusal(code, format string, args ...any) error {
	return &wireError{code, fmt.Sprintf(format, args...)}
}

var errNotJSON = &wireError{badJSON, "the message begins like JSON, but is none"}

// parse reads a client's message, a word or JSON. camStep is what the camera is turned by without a number. The id is
// valid even with an error, if it came before it.
func parse(p []byte, camStep float64) (request, error) {
	p = bytes.TrimSpace(p)
	if len(p) > 0 && p[0] == '{' {
		return parseJSON(p)
	}
	return parseWord(p, camStep)
}

// parseWord reads a word and what may stand behind it: percent for driving, degrees for the camera, a token, a name.
func parseWord(p []byte, camStep float64) (request, error) {
	word, rest, more := bytes.Cut(p, []byte(" "))
	r, ok := words[string(word)]
	r.id, r.seq, r.sent = noID, noID, math.NaN()
	if !ok {
		return r, refusal(unknownCommand, "unknown command %s; the commands are: %s", quote(p), wordList)
	}
	rest = bytes.TrimSpace(rest)
	switch {
	case r.op == opAuth || r.op == opName:
		r.text = string(rest)
		return r, r.check()
	case r.op == opCar && r.car.Kind == hardware.Drive:
		if !more {
			return r, nil
		}
	case r.op == opCar && r.car.Kind == hardware.Turn:
		if !more {
			r.car.Pan *= camStep
			r.car.Tilt *= camStep
			return r, nil
		}
	case more:
		return r, refusal(badValue, "%s takes no number, but got %s", word, quote(rest))
	default:
		return r, nil
	}
	amount, err := strconv.ParseFloat(string(rest), 64)
	if err != nil || math.IsNaN(amount) || math.IsInf(amount, 0) {
		return r, refusal(badValue, "%s %s: the second part must be a number, as in \"up 60\" (percent) or \"cam_up 5\" (degrees)", word, quote(rest))
	}
	if r.car.Kind == hardware.Drive {
		amount = min(max(amount/100, 0), 1)
	}
	r.car.Left *= amount
	r.car.Right *= amount
	r.car.Pan *= amount
	r.car.Tilt *= amount
	return r, nil
}

// numbers are the fields of a message that are numbers, as their positions in what parseJSON has read.
const (
	left = iota
	right
	throttle
	steer
	pan
	tilt
	ttl
)

var numbers = [...]string{left: "left", right: "right", throttle: "throttle", steer: "steer", pan: "pan", tilt: "tilt", ttl: "ttl_ms"}

// parseJSON reads {"op": …}. Fields that it does not know are for a later version of the protocol, and no error.
func parseJSON(p []byte) (request, error) {
	r := request{id: noID, seq: noID, sent: math.NaN()}
	var (
		name  []byte
		token string
		said  string // the client's name
		got   [len(numbers)]float64
		has   [len(numbers)]bool
		wrong error // the first; but the id may stand behind it
	)
	err := fields(p, func(key, value []byte) error {
		ok, want := true, "a number"
		switch string(key) {
		case "op":
			name, want = text(value), "a string"
			ok = name != nil
		case "id":
			r.id, ok = integer(value)
			want = "a whole number from 0 to 2^53-1"
			if !ok {
				r.id = noID
			}
		case "seq":
			r.seq, ok = integer(value)
			want = "a whole number from 0 to 2^53-1"
		case "t_ms":
			r.sent, ok = number(value)
		case "token":
			s := text(value)
			token, ok, want = string(s), s != nil, "a string"
		case "name":
			s := text(value)
			said, ok, want = string(s), s != nil, "a string"
		default:
			for i, field := range numbers {
				if field == string(key) {
					got[i], ok = number(value)
					has[i] = true
				}
			}
		}
		if !ok && wrong == nil {
			wrong = refusal(badValue, "%s: %s is not %s", key, cut(value), want)
		}
		return nil
	})
	if err != nil {
		return r, err
	}
	if wrong != nil {
		return r, wrong
	}
	known, ok := ops[string(name)]
	switch {
	case name == nil:
		return r, refusal(unknownCommand, "the message has no op; the ops are: %s", opList)
	case !ok:
		return r, refusal(unknownCommand, "unknown op %s; the ops are: %s", quote(name), opList)
	}
	r.op, r.car = known.op, known.car
	switch {
	case r.op == opAuth:
		r.text = token
	case r.op == opName:
		r.text = said
	case r.op != opCar:
	case r.car.Kind == hardware.Look:
		if !has[pan] || !has[tilt] {
			return r, refusal(badValue, "look needs pan and tilt, in degrees")
		}
		r.car.Pan, r.car.Tilt = got[pan], got[tilt]
	case r.car.Kind == hardware.Drive:
		for i := range got[:pan] {
			got[i] = min(max(got[i], -1), 1)
		}
		switch {
		case has[left] && has[right] && !has[throttle] && !has[steer]:
			r.car.Left, r.car.Right = got[left], got[right]
		case has[throttle] && !has[left] && !has[right]:
			r.car.Left, r.car.Right = mix(got[throttle], got[steer])
		default:
			return r, refusal(badValue, "drive needs left and right, or throttle and perhaps steer, each from -1 to 1")
		}
		if has[ttl] {
			if got[ttl] < 1 {
				return r, refusal(badValue, "ttl_ms: %v is not a time of 1 ms or more", got[ttl])
			}
			r.car.TTL = time.Duration(min(got[ttl], float64(hardware.MaxTTL.Milliseconds()))) * time.Millisecond
		}
	}
	return r, r.check()
}

// mix has the car go ahead by throttle while it turns right by steer: as fast as it can with the turn kept.
func mix(throttle, steer float64) (left, right float64) {
	left, right = throttle+steer, throttle-steer
	most := max(math.Abs(left), math.Abs(right), 1)
	return left / most, right / most
}

// check says what is wrong with a token or a name.
func (r *request) check() error {
	switch {
	case r.op == opAuth && r.text == "":
		return refusal(badValue, "auth needs a token")
	case r.op != opName:
	case utf8.RuneCountInString(r.text) > maxName || !utf8.ValidString(r.text):
		return refusal(badValue, "a name has up to %d characters", maxName)
	case strings.ContainsFunc(r.text, func(c rune) bool { return !unicode.IsPrint(c) }):
		return refusal(badValue, "the name %s has characters that can't be seen", quote([]byte(r.text)))
	}
	return nil
}

// quote shows a client's input in an error.
func quote(p []byte) string { return strconv.Quote(cut(p)) }

// cut shortens input to what is worth reading.
func cut(p []byte) string {
	const most = 40
	s := strings.ToValidUTF8(string(p[:min(len(p), most)]), "?")
	if len(p) > most {
		s += "..."
	}
	return s
}

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

func appendError(dst []byte, id int64, err error) []byte {
	code := hasFailed
	var refusal *wireError
	switch {
	case errors.As(err, &refusal):
		code = refusal.code
	case errors.Is(err, hardware.ErrStale):
		code = isStale
	case errors.Is(err, hardware.ErrNoCamera):
		code = noCamera
	case errors.Is(err, hardware.ErrBusy), errors.Is(err, hardware.ErrLate):
		code = isBusy
	case errors.Is(err, hardware.ErrEStop):
		code = isEStop
	case errors.Is(err, hardware.ErrBlocked):
		code = isBlocked
	case errors.Is(err, hardware.ErrOff):
		code = isOff
	}
	m := struct {
		Op      string `json:"op"`
		ID      *int64 `json:"id,omitempty"`
		Code    string `json:"code"`
		Message string `json:"message"`
	}{"error", &id, code, err.Error()}
	if id == noID {
		m.ID = nil
	}
	return append(dst, encode(m)...)
}

// viewerName is how the viewer with a number is called on the wire and in the log.
func viewerName(id uint64) string { return "v" + strconv.FormatUint(id, 10) }
