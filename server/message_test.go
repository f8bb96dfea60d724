package main

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
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

// sensorsConfig has one sensor of each kind, and a second of distance.
const sensorsConfig = `
[[sensors]]
name = "bumper"
kind = "contact"
line = "GPIO5"
pull = "up"
active_low = true
stop = true

[[sensors]]
name = "front_m"
kind = "distance"
line = "GPIO21"
trigger = "GPIO20"
pull = "down"
stop_below = 0.25

[[sensors]]
name = "rear_m"
kind = "distance"
line = "GPIO19"
trigger = "GPIO18"

[[sensors]]
name = "wheel"
kind = "encoder"
line = "GPIO16"
debounce = "1ms"
`

// The state shows what the sensors in the file read, by their names; what is not known, and no echo, is null.
func TestSensorsInTheState(t *testing.T) {
	cfg, err := loadConfig([]string{"-config", write(t, sensorsConfig+l298n)}, noEnv)
	if err != nil {
		t.Fatal(err)
	}
	car := hardware.New(cfg.car(), nil, nil, nil)
	want := []hardware.Sensor{
		{Name: "bumper", Kind: hardware.Contact, Line: "GPIO5", Pull: "up", ActiveLow: true, Stop: 1},
		{Name: "front_m", Kind: hardware.Distance, Line: "GPIO21", Trigger: "GPIO20", Pull: "down", Stop: 0.25},
		{Name: "rear_m", Kind: hardware.Distance, Line: "GPIO19", Trigger: "GPIO18"},
		{Name: "wheel", Kind: hardware.Encoder, Line: "GPIO16", Debounce: time.Millisecond},
	}
	if got := car.Config().Sensors; !slices.Equal(got, want) {
		t.Errorf("the sensors are %+v, want %+v", got, want)
	}
	for _, tt := range []struct {
		front, rear float64
		want        string
	}{
		{hardware.NoEcho, 0.84, `"sensors":{"bumper":1,"front_m":null,"rear_m":0.84,"wheel":1234567}`},
		{hardware.Unknown, hardware.Silent, `"sensors":{"bumper":1,"front_m":null,"rear_m":-1,"wheel":1234567}`},
	} {
		var m stateMessage
		s := car.State()
		copy(s.Sensors[:], []float64{1, tt.front, tt.rear, 1234567})
		m.setCar(s, car)
		if got := string(encode(m)); !strings.Contains(got, tt.want) {
			t.Errorf("the state is %s, want it with %s", got, tt.want)
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

func TestResults(t *testing.T) {
	for _, tt := range []struct {
		result hardware.Result
		want   string
	}{
		{hardware.Result{Applied: true, Seq: 812, Took: 63*time.Microsecond + 9}, `{"op":"ack","seq":812,"applied":true,"us":63}`},
		{hardware.Result{}, `{"op":"ack","seq":0,"applied":false,"us":0}`},
		{hardware.Result{Err: hardware.ErrStale}, `{"op":"error","code":"stale","message":"` + hardware.ErrStale.Error() + `"}`},
		{hardware.Result{Err: hardware.ErrNoCamera}, `{"op":"error","code":"no_camera","message":"` + hardware.ErrNoCamera.Error() + `"}`},
		{hardware.Result{Err: hardware.ErrBusy}, `{"op":"error","code":"busy","message":"` + hardware.ErrBusy.Error() + `"}`},
		{hardware.Result{Err: fmt.Errorf("now: %w", hardware.ErrOff)}, `{"op":"error","code":"off","message":"now: ` + hardware.ErrOff.Error() + `"}`},
		{hardware.Result{Err: errors.New("i/o \"error\"")}, `{"op":"error","code":"failed","message":"i/o \"error\""}`},
	} {
		if got := string(appendResult(nil, noID, tt.result)); got != tt.want {
			t.Errorf("%+v is sent as %s, want %s", tt.result, got, tt.want)
		}
	}
}

// BenchmarkStateDeflated shows what permessage-deflate (RFC 7692), without context takeover and so compressed once for
// all, would save of a state, and what it would cost a loop. The README says why it is not offered.
func BenchmarkStateDeflated(b *testing.B) {
	m := &stateMessage{Op: "state", Driver: "v17", Viewers: 250}
	car := hardware.New(hardware.SimulatedCar(0, 0), nil, nil, nil)
	s := hardware.State{Seq: 1234, Left: 0.6, Right: 0.6, Pan: 20, Tilt: -10}
	copy(s.Outputs[:], []float64{1, 0, 0.68, 1, 0, 0.68, 0.086, 0.07})
	copy(s.Sensors[:], []float64{1.32, 0.447, 0.447, 1.873, 2.114, 12.5, 8.31})
	m.setCar(s, car)
	state := encode(m)
	var out bytes.Buffer
	w, _ := flate.NewWriter(&out, flate.BestCompression)
	for b.Loop() {
		out.Reset()
		w.Reset(&out)
		w.Write(state)
		w.Flush()
	}
	const tail = 4 // which section 7.2.1 leaves out
	b.ReportMetric(float64(len(state)), "bytes-plain")
	b.ReportMetric(float64(out.Len()-tail), "bytes-deflated")
}
