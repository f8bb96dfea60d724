package main

import (
	"bytes"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"roverd/hardware"
)

// This file is all that clients may say in version 1 of the protocol, and the only place that knows how they spell it.

const (
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
