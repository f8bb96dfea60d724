package main

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"roverd/hardware"
)

// sensorsConfig has one sensor of each kind, and a second of distance.
const sensorsConfig = bumper + `
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
