// The page that drives the car: one WebSocket, what is asked on it and answered.
// The parts around it are modules, each named after what it is.
import { createControls, DRIVE } from './controls.js';
import { causeText, draw } from './draw.js';
import { createDrive } from './drive.js';
import { createHelm, driverName } from './helm.js';
import { createLink } from './link.js';
import { createLogin } from './login.js';
import { model, online, otherDriver } from './model.js';
import { createName } from './name.js';
import { $ } from './page.js';
import { offerPicture } from './picture.js';
import { createRequests } from './requests.js';
import { forgetRoom } from './room.js';
import { createTalk, log } from './talk.js';

// All times in milliseconds.
const QUIET = 1500; // an answer is due for this long: tell the user
const DEAD = 5000; // and for this long: give the connection up
const REFUSAL_SHOWN = 4000;

const requests = createRequests((text) => {
  if (online()) link.send(text);
  return online();
});
const { ask, say } = requests;
const drive = createDrive(ask);

// What the controls ask for. The camera's steps go as words: only the server knows
// how large they are, and how far it turns.
function send(word) {
  if (word !== 'stop' && DRIVE.includes(word)) drive(word);
  else if (word.startsWith('cam_')) say(word);
  else ask({ op: word });
}

// Writes an answer beside what was asked, or by itself.
function answered(request, answer, frame) {
  model.quiet = false;
  if (!request) return log.note(answer.reply, answer.kind);
  request.write(answer);
  request.then(frame);
}

// What an ack says: of the car, of the helm, of a token.
function ackText({ applied, us, role }) {
  if (us === undefined) return role ? `your role: ${role}` : applied ? 'done' : 'asked';
  return applied ? `ack ${us} µs` : 'overtaken by a newer word';
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
    tellName();
  },

  state(frame) {
    const before = model.state;
    model.state = frame;
    model.fault = frame.fault || '';
    const request = requests.answeredByState();
    if (request) answered(request, { reply: `state ${frame.seq}`, kind: 'good', meaning: 'state' }, frame);
    if (frame.estop) controls.dropDrive(); // what is held must be pressed anew after it
    if (!before) return; // how things stand at first is no change
    helm.changed(before);
    if (frame.driver !== before.driver) log.note(`driver: ${driverName(frame)}`);
    if (frame.cause && frame.cause !== before.cause) log.note(`stopped: ${causeText(frame)}`, 'warn');
    if (frame.fault && frame.fault !== before.fault) log.note(`fault: ${frame.fault}`, 'bad');
    if (frame.estop === before.estop) return;
    log.note(`emergency stop ${frame.estop ? 'on' : 'off'}`, 'bad');
    if (frame.estop) model.estoppedAt = performance.now();
  },

  ack(frame) {
    const reply = ackText(frame);
    answered(requests.answered(frame), { reply, kind: 'good', meaning: frame.applied ? 'ack' : reply }, frame);
    if (frame.applied) model.refusal = ''; // it is no longer true of what the car does
  },

  pong(frame) {
    answered(requests.answered(frame), { reply: 'pong', kind: 'good', meaning: 'pong' }, frame);
  },

  error(frame) {
    const request = requests.answered(frame);
    if (!request && frame.code === 'refused') return helm.refused();
    answered(request, { reply: `${frame.code}: ${frame.message}`, kind: 'bad', meaning: frame.code }, frame);
    if (frame.code === 'not_driver') controls.dropAll(); // who gets the helm later must press anew
    model.refusal = frame.code === 'not_driver' && otherDriver() ? `${driverName(model.state)} drives: ask for the helm` : frame.message;
    model.refusedAt = performance.now();
  },

  claim(frame) {
    helm.asked(frame);
  },
};

function onLink(state, text) {
  model.link = state;
  model.linkText = text;
  if (!online()) {
    model.me = model.state = model.claim = null;
    model.refusal = '';
    model.quiet = false;
    requests.forget();
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
const helm = createHelm(ask);
const tellName = createName(ask);
createLogin(ask, tellName);
createTalk(say);

// A socket can hang without ever closing; only the missing answers tell. It is given up at the second look: a page
// that stood still itself, on a busy computer or one that slept, may have them still to read.
setInterval(() => {
  const silence = requests.silence();
  if (silence > DEAD && model.quiet) return link.lose();
  if (silence > QUIET && !model.quiet) log.note('no answer from the car', 'bad');
  model.quiet = silence > QUIET;
  if (performance.now() - model.refusedAt > REFUSAL_SHOWN) model.refusal = '';
  show();
}, 250);

$('connect').onclick = () => (model.link === 'disconnected' ? link.open() : link.leave());

link.open();
