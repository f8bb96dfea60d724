package hardware

import (
	"math"
	"testing"
)

func TestRay(t *testing.T) {
	r := &Room{Width: 4, Depth: 3, Posts: []Post{{3, 1, 0.5}}, Boxes: []Box{{1, 2, 2, 2.5}}}
	for _, tt := range []struct {
		name          string
		x, y, degrees float64
		want          float64
	}{
		{"right wall", 1, 1.6, 0, 3},
		{"left wall", 1, 1.6, 180, 1},
		{"top wall", 0.5, 1.6, 90, 1.4},
		{"bottom wall", 0.5, 1.6, -90, 1.6},
		{"corner", 3, 2, 45, math.Sqrt2},
		{"post", 1, 1, 0, 1.5},
		{"post, aside of its middle", 1, 1.3, 0, 1.6},
		{"past the post", 1, 1.51, 0, 3},
		{"a post behind", 1, 1, 180, 1},
		{"box from below", 1.5, 1, 90, 1},
		{"box from above", 1.5, 2.75, -90, 0.25},
		{"box askew", 0.5, 1.75, 45, 0.5 * math.Sqrt2},
		{"past the box", 0.5, 1.99, 0, 3.5},
		{"a box behind", 1.5, 1.5, -90, 1.5},
		{"at the wall", 4, 1.6, 0, 0},
	} {
		if got := r.ray(tt.x, tt.y, tt.degrees*math.Pi/180); math.Abs(got-tt.want) > 1e-9 {
			t.Errorf("%s: %v m, want %v", tt.name, got, tt.want)
		}
	}
}

// A disc that is pushed into something ends beside it, touches it on that side only, and keeps what it went along it.
func TestPush(t *testing.T) {
	r := &Room{Width: 4, Depth: 3, Posts: []Post{{3, 1, 0.5}}, Boxes: []Box{{1, 2, 2, 2.5}}}
	for _, tt := range []struct {
		name         string
		x, y         float64
		wantX, wantY float64
		side         float64 // where it touches, degrees
	}{
		{"right wall", 3.95, 2, 3.9, 2, 0},
		{"left wall", 0.05, 2, 0.1, 2, 180},
		{"far wall", 2.5, 2.95, 2.5, 2.9, 90},
		{"near wall", 2, 0, 2, 0.1, -90},
		{"corner", 3.99, 2.99, 3.9, 2.9, 45},
		{"box", 1.5, 1.95, 1.5, 1.9, 90},
		{"post", 2.45, 1, 2.4, 1, 0},
		{"corner of the box", 1 - 0.06, 2 - 0.06, 1 - 0.1/math.Sqrt2, 2 - 0.1/math.Sqrt2, 45},
	} {
		x, y := r.push(tt.x, tt.y, 0.1)
		if math.Abs(x-tt.wantX) > 1e-9 || math.Abs(y-tt.wantY) > 1e-9 {
			t.Errorf("%s: pushed to %v, %v, want %v, %v", tt.name, x, y, tt.wantX, tt.wantY)
		}
		for _, turned := range []float64{0, 90, 180} {
			want := turned == 0 || turned == 90 && tt.name == "corner" // which has two sides
			if got := r.touches(x, y, 0.1, (tt.side+turned)*math.Pi/180); got != want {
				t.Errorf("%s: touches at %v degrees: %v, want %v", tt.name, tt.side+turned, got, want)
			}
		}
	}
	if x, y := r.push(2.2, 1.5, 0.1); x != 2.2 || y != 1.5 || r.touches(x, y, 0.1, 0) {
		t.Errorf("pushed to %v, %v where nothing is", x, y)
	}
}
