package hardware

import "math"

// Room is where the simulated car drives. Lengths are metres; x runs along its width, y along its depth, from a corner.
type Room struct {
	Width, Depth float64
	Posts        []Post
	Boxes        []Box
}

// Post is a round obstacle.
type Post struct{ X, Y, Radius float64 }

// Box is an obstacle with four corners.
type Box struct{ X0, Y0, X1, Y1 float64 }

// theRoom is chosen: a way ahead of the start that is free and long enough to drive, and something to drive around. All
// things stand so far apart that the car fits between, which push relies on.
var theRoom = Room{
	Width: 5, Depth: 4,
	Posts: []Post{{X: 3.3, Y: 3, Radius: 0.15}},
	Boxes: []Box{{X0: 2.6, Y0: 0.6, X1: 3.2, Y1: 1}},
}

// surface is what of a thing is nearest to a point: how far it is, and the direction from there to the point.
type surface struct{ gap, nx, ny float64 }

// surfaces yields the surfaces of all things, as seen from a point outside of them.
func (r *Room) surfaces(x, y float64) func(yield func(surface) bool) {
	return func(yield func(surface) bool) {
		for _, s := range [...]surface{{x, 1, 0}, {r.Width - x, -1, 0}, {y, 0, 1}, {r.Depth - y, 0, -1}} {
			if !yield(s) {
				return
			}
		}
		for _, p := range r.Posts {
			if !yield(from(p.X, p.Y, p.Radius, x, y)) {
				return
			}
		}
		for _, b := range r.Boxes {
			if !yield(from(min(max(x, b.X0), b.X1), min(max(y, b.Y0), b.Y1), 0, x, y)) {
				return
			}
		}
	}
}

// from returns the surface, seen from x, y, of a disc.
func from(centreX, centreY, radius, x, y float64) surface {
	dx, dy := x-centreX, y-centreY
	d := math.Hypot(dx, dy)
	if d == 0 {
		return surface{gap: -radius}
	}
	return surface{d - radius, dx / d, dy / d}
}

// push moves a disc out of whatever it has run into, the shortest way: so it glides along a wall.
func (r *Room) push(x, y, radius float64) (float64, float64) {
	for s := range r.surfaces(x, y) {
		if in := radius - s.gap; in > 0 {
			x, y = x+in*s.nx, y+in*s.ny
		}
	}
	return x, y
}

// touches tells whether a disc touches something on that side of it to which the direction points, give or take 60
// degrees, as a bumper would.
func (r *Room) touches(x, y, radius, direction float64) bool {
	const near = 0.001
	sin, cos := math.Sincos(direction)
	for s := range r.surfaces(x, y) {
		if s.gap-radius < near && s.nx*cos+s.ny*sin < -0.5 {
			return true
		}
	}
	return false
}

// ray returns how far it is from a point to the first thing in that direction.
func (r *Room) ray(x, y, direction float64) float64 {
	dy, dx := math.Sincos(direction)
	// The walls are a box seen from inside.
	_, first := Box{0, 0, r.Width, r.Depth}.cross(x, y, dx, dy)
	for _, b := range r.Boxes {
		if in, out := b.cross(x, y, dx, dy); 0 <= in && in <= out {
			first = min(first, in)
		}
	}
	for _, p := range r.Posts {
		along := (p.X-x)*dx + (p.Y-y)*dy // to where the ray is nearest to the centre
		aside := (p.X-x)*dy - (p.Y-y)*dx // which is so far away
		if half := p.Radius*p.Radius - aside*aside; half >= 0 && along > 0 {
			first = min(first, along-math.Sqrt(half))
		}
	}
	return max(first, 0)
}

// cross returns between which distances a ray is in the box; in is more than out when it never is.
func (b Box) cross(x, y, dx, dy float64) (in, out float64) {
	slab := func(low, high, at, d float64) (float64, float64) {
		if d == 0 {
			if low <= at && at <= high {
				return math.Inf(-1), math.Inf(1)
			}
			return math.Inf(1), math.Inf(-1)
		}
		t0, t1 := (low-at)/d, (high-at)/d
		return min(t0, t1), max(t0, t1)
	}
	inX, outX := slab(b.X0, b.X1, x, dx)
	inY, outY := slab(b.Y0, b.Y1, y, dy)
	return max(inX, inY), min(outX, outY)
}
