package main

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"roverd/hardware"
)

func TestParseWords(t *testing.T) {
	for text, want := range map[string]hardware.Command{
		"up":            {Kind: hardware.Drive, Left: 1, Right: 1},
		"back 25":       {Kind: hardware.Drive, Left: -0.25, Right: -0.25},
		"left 50":       {Kind: hardware.Drive, Left: -0.5, Right: 0.5},
		"right 0":       {Kind: hardware.Drive},
		"up 1000":       {Kind: hardware.Drive, Left: 1, Right: 1}, // clamped
		"up -5":         {Kind: hardware.Drive},                    // clamped: back is another word
		" stop\r\n":     {Kind: hardware.Stop},
		"cam_up":        {Kind: hardware.Turn, Tilt: 10},
		"cam_down  2.5": {Kind: hardware.Turn, Tilt: -2.5},
		"cam_left 90":   {Kind: hardware.Turn, Pan: -90},
		"cam_right 1":   {Kind: hardware.Turn, Pan: 1},
		"cam_init":      {Kind: hardware.Centre},
		"estop":         {Kind: hardware.EStop},
		"reset":         {Kind: hardware.Reset},
	} {
		if got, err := parse([]byte(text), 10); err != nil || got.car != want || got.op != opCar || got.id != noID {
			t.Errorf("%q is %+v, %v; want %+v", text, got, err, want)
		}
	}
}

func TestParseJSON(t *testing.T) {
	drive := func(left, right float64) request {
		return request{car: hardware.Command{Kind: hardware.Drive, Left: left, Right: right}, id: noID, seq: noID}
	}
	with := func(r request, change func(*request)) request { change(&r); return r }
	for text, want := range map[string]request{
		`{"op":"drive","left":0.5,"right":-0.5}`:                     drive(0.5, -0.5),
		`{"op":"drive","left":5,"right":-1e300}`:                     drive(1, -1), // clamped
		` { "right" : 1 , "left" : 0 , "op" : "drive" } `:            drive(0, 1),
		`{"op":"drive","left":1,"right":1,"later":{"a":[1,"}",{}]}}`: drive(1, 1),
		`{"later":"\"}","\u006fp":"dr\u0069ve","left":1,"right":-0}`: drive(1, 0),
		`{"op":"drive","throttle":0.5}`:                              drive(0.5, 0.5),
		`{"op":"drive","throttle":0.5,"steer":0.25}`:                 drive(0.75, 0.25),
		`{"op":"drive","throttle":1,"steer":1}`:                      drive(1, 0),
		`{"op":"drive","throttle":-1,"steer":1}`:                     drive(0, -1),
		`{"op":"drive","throttle":0,"steer":-0.5}`:                   drive(-0.5, 0.5),
		`{"op":"drive","left":1,"right":1,"id":7,"seq":41}`:          with(drive(1, 1), func(r *request) { r.id, r.seq = 7, 41 }),
		`{"op":"drive","left":1,"right":1,"id":0,"ttl_ms":200}`:      with(drive(1, 1), func(r *request) { r.id, r.car.TTL = 0, 200*time.Millisecond }),
		`{"op":"drive","left":1,"right":1,"ttl_ms":1e9}`:             with(drive(1, 1), func(r *request) { r.car.TTL = hardware.MaxTTL }),
		`{"op":"look","pan":10,"tilt":-5.5}`:                         {car: hardware.Command{Kind: hardware.Look, Pan: 10, Tilt: -5.5}, id: noID, seq: noID},
		`{"op":"stop","left":1}`:                                     {car: hardware.Command{Kind: hardware.Stop}, id: noID, seq: noID},
		`{"op":"estop"}`:                                             {car: hardware.Command{Kind: hardware.EStop}, id: noID, seq: noID},
		`{"op":"reset","id":9007199254740991}`:                       {car: hardware.Command{Kind: hardware.Reset}, id: 1<<53 - 1, seq: noID},
		`{"op":"claim"}`:                                             {op: opClaim, id: noID, seq: noID},
		`{"op":"release"}`:                                           {op: opRelease, id: noID, seq: noID},
		`{"op":"grant"}`:                                             {op: opGrant, id: noID, seq: noID},
		`{"op":"refuse"}`:                                            {op: opRefuse, id: noID, seq: noID},
		`{"op":"auth","token":"a\u0062c","name":"x"}`:                {op: opAuth, text: "abc", id: noID, seq: noID},
		`{"op":"name","name":"Änn 🚗"}`:                               {op: opName, text: "Änn 🚗", id: noID, seq: noID},
		`{"op":"name","name":""}`:                                    {op: opName, id: noID, seq: noID},
		`{"op":"ping","id":3}`:                                       {op: opPing, id: 3, seq: noID},
		`{"op":"state"}`:                                             {op: opState, id: noID, seq: noID},
		"claim":                                                      {op: opClaim, id: noID, seq: noID},
		"auth abc=":                                                  {op: opAuth, text: "abc=", id: noID, seq: noID},
		"name Ann B":                                                 {op: opName, text: "Ann B", id: noID, seq: noID},
	} {
		got, err := parse([]byte(text), 10)
		if !math.IsNaN(got.sent) {
			t.Errorf("%s was sent at %v", text, got.sent)
		}
		if got.sent = 0; err != nil || got != want {
			t.Errorf("%s is %+v, %v; want %+v", text, got, err, want)
		}
	}
	if got, err := parse([]byte(`{"t_ms":12.5,"op":"ping"}`), 10); err != nil || got.sent != 12.5 {
		t.Errorf("it was sent at %v, %v", got.sent, err)
	}
}

func TestParseJSONErrors(t *testing.T) {
	for text, want := range map[string]struct {
		code, says string
		id         int64
	}{
		`{`:                         {"bad_json", "", noID},
		`{"op":"stop"`:              {"bad_json", "", noID},
		`{"op":"stop"}}`:            {"bad_json", "", noID},
		`{"op":"drive","left":NaN}`: {"bad_json", "", noID},
		`{"op":"drive","left":+1}`:  {"bad_json", "", noID},
		`{}`:                        {"unknown_command", "no op", noID},
		`{"id":4}`:                  {"unknown_command", "no op", 4},
		`{"op":"fly","id":4}`:       {"unknown_command", `"fly"`, 4},
		`{"op":"up"}`:               {"unknown_command", `"up"`, noID},
		`{"op":7,"id":4}`:           {badValue, "op: 7 is not a string", 4},
		`{"op":null}`:               {badValue, "op", noID},
		`{"op":"drive","id":4}`:     {badValue, "left and right", 4},
		`{"op":"drive","left":1}`:   {badValue, "left and right", noID},
		`{"op":"drive","steer":1}`:  {badValue, "throttle", noID},
		`{"op":"drive","left":1,"right":1,"throttle":1}`:         {badValue, "throttle", noID},
		`{"op":"drive","left":"1","right":1,"id":4}`:             {badValue, "left", 4},
		`{"op":"drive","left":true,"right":1}`:                   {badValue, "left", noID},
		`{"op":"drive","left":1e999,"right":1}`:                  {badValue, "left", noID},
		`{"op":"drive","left":null,"right":1}`:                   {badValue, "left", noID},
		`{"op":"drive","left":[1],"right":1}`:                    {badValue, "left", noID},
		`{"op":"drive","left":1,"right":1,"ttl_ms":0}`:           {badValue, "ttl_ms", noID},
		`{"op":"drive","left":1,"right":1,"ttl_ms":-5}`:          {badValue, "ttl_ms", noID},
		`{"op":"drive","left":1,"right":1,"seq":-1}`:             {badValue, "seq", noID},
		`{"op":"drive","left":1,"right":1,"seq":1.5}`:            {badValue, "seq", noID},
		`{"op":"drive","left":1,"right":1,"t_ms":"now"}`:         {badValue, "t_ms", noID},
		`{"op":"stop","id":"x"}`:                                 {badValue, "id", noID},
		`{"op":"stop","id":9007199254740992}`:                    {badValue, "id", noID},
		`{"op":"look","pan":1}`:                                  {badValue, "tilt", noID},
		`{"op":"auth"}`:                                          {badValue, "token", noID},
		`{"op":"auth","token":7}`:                                {badValue, "token", noID},
		`{"op":"name","name":"a\u0000b"}`:                        {badValue, "seen", noID},
		`{"op":"name","name":"` + strings.Repeat("x", 33) + `"}`: {badValue, "32", noID},
		`["op"]`:       {"unknown_command", "", noID},
		"claim now":    {badValue, "now", noID},
		"auth":         {badValue, "token", noID},
		"name \x1b[2J": {badValue, "seen", noID},
	} {
		got, err := parse([]byte(text), 10)
		e, ok := err.(*wireError)
		if !ok || e.code != want.code || !strings.Contains(e.message, want.says) || got.id != want.id {
			t.Errorf("%s: id %d, %v, want id %d, %s with %q", text, got.id, err, want.id, want.code, want.says)
		}
	}
}

// Whatever a client sends, it is an error that can be sent back, or a request whose numbers are finite and in range; and
// what is taken for JSON is an object to encoding/json too, with the same fields.
func FuzzParse(f *testing.F) {
	for _, text := range []string{"up", "up 60", "cam_init", "stop now", "\xff", "up \xff", "cam_up 1e308", "UP", "up\t5", "left 5 5",
		`{"op":"drive","left":0.5,"right":0.5,"seq":41,"id":7,"ttl_ms":300,"t_ms":1.5}`, `{"op":"look","pan":1,"tilt":1e400}`,
		`{"op":"name","name":"\u0041\\","x":[{"}":"]"}]}`, `{"\u006fp":"drive","throttle":-1,"steer":1}`, "{\"op\":\"stop\"}\xff"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		r, err := parse(p, 10)
		if err != nil {
			var m message
			if err := json.Unmarshal(appendError(nil, r.id, err), &m); err != nil || m.Op != "error" || m.Code == "" || m.Message == "" {
				t.Errorf("%q leads to %s", p, appendError(nil, r.id, err))
			}
		}
		c := r.car
		if err == nil && (math.Abs(c.Left) > 1 || math.Abs(c.Right) > 1 || math.IsInf(c.Pan, 0) || math.IsInf(c.Tilt, 0) ||
			math.IsNaN(c.Left+c.Right+c.Pan+c.Tilt) || c.TTL < 0 || c.TTL > hardware.MaxTTL || r.id < noID || r.seq < noID) {
			t.Errorf("%q is %+v", p, r)
		}
		if p = bytes.TrimSpace(p); len(p) == 0 || p[0] != '{' || !utf8.Valid(p) { // text that is no UTF-8 does not come so far
			return
		}
		got := map[string]string{}
		if fields(p, func(name, value []byte) error { got[string(name)] = string(value); return nil }) != nil {
			got = nil
		}
		var want map[string]json.RawMessage
		if json.Unmarshal(p, &want) != nil {
			want = nil
		}
		if (got == nil) != (want == nil) || len(got) != len(want) {
			t.Fatalf("%q has the fields %q, want %q", p, got, want)
		}
		for name, value := range want {
			if got[name] != string(value) {
				t.Errorf("%q: %s is %q, want %q", p, name, got[name], value)
			}
		}
	})
}

// A word and a drive command make no garbage.
func TestParseMakesNoGarbage(t *testing.T) {
	for _, text := range []string{"up 60", "stop", `{"op":"drive","left":0.5,"right":0.5,"seq":41,"id":7,"ttl_ms":300,"t_ms":1234.5}`} {
		p := []byte(text)
		if n := testing.AllocsPerRun(1000, func() {
			if _, err := parse(p, 10); err != nil {
				t.Error(err)
			}
		}); n >= 1 { // encoding/json's scanners come from a pool, of which -race loses some on purpose
			t.Errorf("%s costs %v allocations", text, n)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	for _, text := range []string{"up 60", `{"op":"drive","left":0.5,"right":0.5,"seq":41,"id":7}`} {
		b.Run(text, func(b *testing.B) {
			b.ReportAllocs()
			p := []byte(text)
			for b.Loop() {
				parse(p, 10)
			}
		})
	}
}
