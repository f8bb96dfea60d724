// draw() paints all that is shown of the model.
import { CAMERA, DRIVE, isCalm } from './controls.js';
import { drawHelm, helmHint } from './helm.js';
import { estopped, live, mayControl, mayDrive, model, online } from './model.js';
import { $, put, UNKNOWN } from './page.js';
import { drawRoom } from './room.js';

export function causeText({ cause }) {
  const known = {
    ttl: `no command for ${model.me.ttl_ms} ms`,
    disconnect: 'the driver disconnected',
    fault: 'a GPIO line failed',
    estop: 'emergency stop',
    sensor: 'something is in the way',
    handover: 'the helm changed hands',
  };
  return known[cause] || cause;
}

function drawCause(state) {
  const stopped = Boolean(state && state.cause); // by itself
  const doing = () => (state.motion.left || state.motion.right ? 'drives' : 'stands');
  put($('cause-label'), stopped ? 'Stopped' : 'Car');
  put($('cause'), stopped ? causeText(state) : state ? doing() : UNKNOWN);
  $('cause').toggleAttribute('data-alarm', stopped);
}

// A share of 1 in percent; small ones, as a servo's pulses are, with a decimal.
const percent = (share) => `${Number((share * 100).toFixed(Math.abs(share) < 0.1 ? 1 : 0))}%`;

function drawMotor(side, value) {
  const motor = $(`motor-${side}`);
  const [way, arrow] = value > 0 ? ['forward', '↑'] : value < 0 ? ['backward', '↓'] : ['', ''];
  const speed = value === '' ? UNKNOWN : percent(Math.abs(value));
  motor.dataset.value = value;
  motor.style.setProperty('--value', value || 0);
  motor.setAttribute('aria-label', `${side} motor ${way} ${speed}`);
  put(motor.querySelector('b'), arrow + speed);
}

function drawGaze(camera) {
  const [pan, tilt] = camera ? [Math.round(camera.pan), Math.round(camera.tilt)] : [0, 0];
  const gaze = $('gaze');
  gaze.toggleAttribute('data-known', Boolean(camera));
  gaze.style.setProperty('--pan', pan);
  gaze.style.setProperty('--tilt', tilt);
  gaze.setAttribute('aria-label', `camera ${camera ? `pan ${pan}°, tilt ${tilt}°` : 'position unknown'}`);
  put(gaze.querySelector('b'), camera ? `${pan}° ${tilt}°` : UNKNOWN);
}

// The values by name, one row each. The rows keep their places while the values
// are unknown, so that nothing jumps.
function drawRows(list, values, label, write) {
  const names = Object.keys(values || {});
  if (values && names.join() !== Array.from(list.children, (row) => row.dataset.name).join()) {
    list.replaceChildren(...names.map((name) => {
      const row = document.createElement('li');
      row.dataset.name = name;
      row.append(label(name), document.createElement('b'));
      return row;
    }));
  }
  for (const row of list.children) put(row.querySelector('b'), write(row, values));
}

function drawLines(levels) {
  drawRows($('lines'), levels, (name) => name, (row) => {
    const level = levels ? levels[row.dataset.name] : '';
    row.dataset.level = level;
    row.style.setProperty('--level', level || 0);
    return level === '' ? '?' : level > 0 && level < 1 ? percent(level) : String(level);
  });
}

// A sensor's unit is the end of its name; decimals is how many are worth showing.
const UNITS = [
  { end: '_mps', unit: ' m/s', decimals: 2 },
  { end: '_deg', unit: '°', decimals: 0 },
  { end: '_m', unit: ' m', decimals: 2 },
  { end: '_v', unit: ' V', decimals: 2 },
];
const unitOf = (name) => UNITS.find(({ end }) => name.endsWith(end));

function drawSensors(values) {
  const list = $('sensors');
  const label = (name) => name.slice(0, name.length - (unitOf(name)?.end.length || 0)).replaceAll('_', ' ');
  drawRows(list, values, label, (row) => {
    const value = values && values[row.dataset.name];
    if (value === null || value === undefined) return UNKNOWN;
    const { unit, decimals } = unitOf(row.dataset.name) || { unit: '' };
    if (decimals === undefined) return String(value) + unit;
    return Number(value.toFixed(decimals)).toFixed(decimals) + unit; // twice: the first may leave -0, the second does not
  });
  $('sensors-panel').hidden = !list.children.length;
}

function drawControl(word, usable, isHeld) {
  $(word).disabled = !usable;
  $(word).toggleAttribute('data-held', isHeld(word));
}

function drawEmergency() {
  const button = $('estop');
  button.disabled = !mayControl();
  button.toggleAttribute('data-holds', estopped());
  button.setAttribute('aria-disabled', estopped() && !isCalm());
  put($('estop-label'), estopped() ? 'Reset' : 'Emergency stop');
  put($('estop-hint'), estopped() ? 'lets the car drive again' : 'Esc key');
  document.body.toggleAttribute('data-estop', estopped());
}

// What is wrong with the car itself.
function alarm() {
  if (model.fault) return `The car failed and is off: ${model.fault}`;
  if (estopped()) return `Emergency stop: ${mayControl() ? 'press Reset to drive' : 'a driver must reset it'}`;
  return '';
}

function notice({ quiet, refusal }) {
  if (!online()) return ['The car cannot be driven and its state is unknown.', 'bad'];
  if (quiet) return ['No answer from the car: its state is unknown.', 'bad'];
  if (alarm()) return ['', ''];
  if (refusal) return [refusal, 'warn'];
  if (!mayDrive()) return ['', ''];
  return [helmHint(), ''];
}

export function draw(isHeld) {
  const { me, state } = model;
  const known = live();
  document.body.dataset.live = known ? 'yes' : 'no';

  $('status').dataset.state = model.link;
  put($('status'), model.linkText);
  put($('connect'), model.link === 'disconnected' ? 'Connect' : 'Disconnect');
  if (me) {
    const simulated = me.car === 'simulated';
    $('car').toggleAttribute('data-simulated', simulated);
    put($('car'), simulated ? 'no real line is touched' : `car on ${me.car}`);
  }

  drawMotor('left', known ? state.motion.left : '');
  drawMotor('right', known ? state.motion.right : '');
  drawGaze(known ? state.camera : null);
  drawLines(known ? state.lines : null);
  drawSensors(known ? state.sensors : null);
  drawRoom(known ? state.sensors : null);
  drawHelm();
  put($('viewers'), known ? String(state.viewers) : UNKNOWN);
  drawCause(known ? state : null);

  put($('alarm'), alarm());
  const [text, kind] = notice(model);
  put($('notice'), text);
  $('notice').className = kind;
  const watches = online() && !mayControl();
  $('login').hidden = !watches;
  $('role-note').hidden = !watches || Boolean(alarm() || text);

  drawEmergency();
  $('speed').disabled = !mayDrive();
  for (const word of DRIVE) drawControl(word, mayDrive(), isHeld);
  for (const word of CAMERA) drawControl(word, mayControl() && !model.fault && !(state && !state.camera), isHeld);
  $('say').disabled = $('send').disabled = !mayControl();
  $('say').placeholder = watches ? 'only who may drive' : 'up 60';
  $('name-save').disabled = !online();
}
