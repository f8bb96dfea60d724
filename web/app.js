// The page that drives the car: one WebSocket, the words said on it and their
// answers. The parts around it are modules, each named after what it is.
import { createControls } from './controls.js';
import { causeText, draw, driverName } from './draw.js';
import { createLink } from './link.js';
import { model, online } from './model.js';
import { $ } from './page.js';
import { offerPicture } from './picture.js';
import { forgetRoom } from './room.js';
import { createTalk, log } from './talk.js';

// All times in milliseconds.
const QUIET = 1500; // words are out this long without an answer: tell the user
const DEAD = 5000; // and this long: give the connection up
const REFUSAL_SHOWN = 4000;

// The server answers every word once, in the order it dealt with them.
const answers = []; // for each word not yet answered: where to write its answer
let unanswered = 0; // when the oldest of them left, 0 when none is out

function send(text) {
  if (!online()) return;
  link.send(text);
  answers.push(log.sent(text));
  unanswered = unanswered || performance.now();
}

function answered(text, kind) {
  unanswered = 0;
  model.quiet = false;
  (answers.shift() || log.note)(text, kind);
}

const show = () => draw(controls.isHeld);

const onOp = {
  welcome(frame) {
    link.settle();
    model.me = frame;
    log.note(`welcome, you are ${frame.id}, role ${frame.role}, car ${frame.car}`);
    onLink('connected', `Connected as ${frame.id}`);
    offerPicture(frame.camera_url);
    forgetRoom();
  },

  state(frame) {
    const before = model.state;
    model.state = frame;
    model.fault = frame.fault || '';
    if (frame.estop) controls.dropDrive(); // what is held must be pressed anew after it
    if (!before) return; // how things stand at first is no change
    if (frame.driver !== before.driver) log.note(`driver: ${driverName(frame)}`);
    if (frame.cause && frame.cause !== before.cause) log.note(`stopped: ${causeText(frame)}`, 'warn');
    if (frame.fault && frame.fault !== before.fault) log.note(`fault: ${frame.fault}`, 'bad');
    if (frame.estop === before.estop) return;
    log.note(`emergency stop ${frame.estop ? 'on' : 'off'}`, 'bad');
    if (frame.estop) model.estoppedAt = performance.now();
  },

  ack(frame) {
    answered(frame.applied ? `ack ${frame.us} µs` : 'overtaken by a newer word', 'good');
    if (frame.applied) model.refusal = ''; // it is no longer true of what the car does
  },

  error(frame) {
    answered(`${frame.code}: ${frame.message}`, 'bad');
    model.refusal = frame.message;
    model.refusedAt = performance.now();
  },
};

function onLink(state, text) {
  model.link = state;
  model.linkText = text;
  if (!online()) {
    model.me = model.state = null;
    model.refusal = '';
    model.quiet = false;
    unanswered = answers.length = 0;
    controls.releaseAll(); // what was held before a loss must be pressed anew after it
    log.note(text, state === 'disconnected' ? 'bad' : 'note');
  }
  show();
}

const link = createLink(onLink, (frame) => {
  if (!onOp[frame.op]) return;
  onOp[frame.op](frame);
  show();
});
const controls = createControls(send, show);
createTalk(send);

// A socket can hang without ever closing; only the missing answers tell.
setInterval(() => {
  const silence = unanswered && performance.now() - unanswered;
  if (silence > DEAD) return link.lose();
  if (silence > QUIET && !model.quiet) log.note('no answer from the car', 'bad');
  model.quiet = silence > QUIET;
  if (performance.now() - model.refusedAt > REFUSAL_SHOWN) model.refusal = '';
  show();
}, 250);

$('connect').onclick = () => (model.link === 'disconnected' ? link.open() : link.leave());

link.open();
