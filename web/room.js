// The room from above, as far as the car has told of it: where it is, where it
// looks and where it came from. x runs to the right and y up; a heading of 0
// degrees looks along x, 90 along y.
import { $ } from './page.js';

const LEAST = [4, 3]; // metres that are shown at any rate, from the origin
const MARGIN = 0.25; // metres around what was seen
const STEP = 0.02; // metres from one point of the trail to the next
const POINTS = 600;
const JUMP = 0.5; // metres: nobody drives that far from one state to the next

const room = $('room');
const floor = $('room-floor');
const car = $('room-car');
let trail = [];
let seen; // left, bottom, right, top

export function forgetRoom() {
  trail = [];
  seen = [0, 0, ...LEAST];
}

// Shows nothing for a car that does not tell where it is, and what is known still
// when the sensors are not known.
export function drawRoom(sensors) {
  const { x_m: x, y_m: y, heading_deg: heading } = sensors || {};
  if (sensors) room.toggleAttribute('hidden', ![x, y, heading].every(Number.isFinite));
  if (room.hasAttribute('hidden') || !sensors) return;

  const [lastX, lastY] = trail.at(-1) || [Infinity, Infinity];
  const way = Math.hypot(x - lastX, y - lastY);
  if (way > JUMP) trail = [];
  if (way > STEP) trail.push([x, y]);
  if (trail.length > POINTS) trail.shift();
  $('room-trail').setAttribute('points', [...trail, [x, y]].join(' '));
  car.setAttribute('transform', `translate(${x} ${y}) rotate(${heading})`);
  room.setAttribute('aria-label', `Seen from above: the car at ${x.toFixed(1)}, ${y.toFixed(1)} metres, heading ${Math.round(heading)} degrees`);
  fit(x, y);
}

// Widens what is shown in half metres, so that it does not creep with the car.
function fit(x, y) {
  const half = (value, round) => round(value * 2) / 2;
  seen = [
    Math.min(seen[0], half(x - MARGIN, Math.floor)), Math.min(seen[1], half(y - MARGIN, Math.floor)),
    Math.max(seen[2], half(x + MARGIN, Math.ceil)), Math.max(seen[3], half(y + MARGIN, Math.ceil)),
  ];
  const [left, bottom, right, top] = seen;
  for (const [name, value] of Object.entries({ x: left, y: bottom, width: right - left, height: top - bottom })) {
    floor.setAttribute(name, value);
  }
  // SVG counts y downwards; its group turns it over.
  room.setAttribute('viewBox', `${left} ${-top} ${right - left} ${top - bottom}`);
}

forgetRoom();
