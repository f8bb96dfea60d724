// The page that drives the car: one WebSocket, ten held controls, one drawing.
//
// Everything shown comes from `model`, and draw() paints all of it, so a lost
// connection cannot leave an old value standing somewhere as if it were live.

const DRIVE = ['up', 'left', 'stop', 'right', 'back'];
const CAMERA = ['cam_up', 'cam_left', 'cam_init', 'cam_right', 'cam_down'];
const KEYS = {
  ArrowUp: 'up', ArrowDown: 'back', ArrowLeft: 'left', ArrowRight: 'right',
  KeyW: 'up', KeyS: 'back', KeyA: 'left', KeyD: 'right', Space: 'stop',
  KeyI: 'cam_up', KeyK: 'cam_down', KeyJ: 'cam_left', KeyL: 'cam_right', KeyC: 'cam_init',
};
const UNKNOWN = '–';

// All times in milliseconds.
const RETRY_FIRST = 500; // doubles up to RETRY_MOST
const RETRY_MOST = 5000;
const OPEN_WITHIN = 5000; // an attempt without a welcome by then has failed
const QUIET = 1500; // words are out this long without an answer: tell the user
const DEAD = 5000; // and this long: give the connection up
const CAMERA_EVERY = 200;
const PUSH = 300; // how long a screen reader's click holds a control
const REFUSAL_SHOWN = 4000;
const COLLAPSE = 2000; // the same word again within this is counted, not listed
const LOG_LINES = 200;

const $ = (id) => document.getElementById(id);

// Writing the same text again would make a screen reader read it again.
function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const model = {
  link: 'connecting', linkText: '', // #status: its data-state and its words
  me: null, // the welcome frame of this connection
  state: null, // its newest state frame
  quiet: false, // words are out and no answer came
  refusal: '', refusedAt: 0, // the newest error, shown for a while
};
const online = () => model.link === 'connected';
const mayDrive = () => online() && model.me.role === 'control';
// The name of another who drives, or ''.
const otherDriver = () => (model.state && model.state.driver !== model.me.id ? model.state.driver : '');

/* --------------------------------------------------------------------- log */

const log = (() => {
  const list = $('log');
  let last = {}; // the newest word sent for driving and for the camera: repeats are counted there

  function begin() {
    const row = document.createElement('li');
    row.append(document.createElement('time'), document.createElement('span'));
    row.firstChild.textContent = new Date().toTimeString().slice(0, 8);
    list.append(row);
    if (list.children.length > LOG_LINES) list.firstChild.remove();
    return row;
  }

  function write(line, kind) {
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 30;
    line.row = line.row || begin();
    line.row.className = kind;
    const times = line.count > 1 ? ` ×${line.count}` : '';
    put(line.row.lastChild, line.text + times + (line.reply ? ` → ${line.reply}` : ''));
    if (atEnd) list.scrollTop = list.scrollHeight; // follow only a reader at the end
  }

  $('log-clear').onclick = () => {
    list.replaceChildren();
    last = {};
  };

  return {
    note: (text, kind = 'note') => write({ text }, kind),
    // Returns the function that writes the answer beside the word.
    sent(text) {
      const topic = text.startsWith('cam_') ? 'camera' : 'drive';
      let line = last[topic];
      if (!line || line.text !== text || Date.now() - line.at > COLLAPSE) line = last[topic] = { text, count: 0 };
      line.at = Date.now();
      line.count += 1;
      write(line, 'good');
      return (reply, kind) => write(Object.assign(line, { reply }), kind);
    },
  };
})();

/* -------------------------------------------------------------------- link */

// The connection: opens, tries again with growing delay, and reports through
// onChange(state, text) and onFrame(frame).
function createLink(onChange, onFrame) {
  let socket = null;
  let timer = 0;
  let delay = RETRY_FIRST;

  function drop() {
    clearTimeout(timer);
    if (!socket) return;
    // Closing a hung socket takes its time; nothing it still says counts.
    socket.onmessage = socket.onclose = null;
    socket.close();
    socket = null;
  }

  function open() {
    drop();
    socket = new WebSocket(`${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/`);
    socket.onmessage = (event) => onFrame(JSON.parse(event.data));
    socket.onclose = lose;
    timer = setTimeout(lose, OPEN_WITHIN);
    onChange('connecting', `Connecting to ${location.host}…`);
  }

  function settle() { // the server took us in
    clearTimeout(timer);
    delay = RETRY_FIRST;
  }

  function lose() {
    drop();
    onChange('disconnected', `No connection, retry in ${delay / 1000} s`);
    timer = setTimeout(open, delay);
    delay = Math.min(delay * 2, RETRY_MOST);
  }

  function leave() {
    drop();
    delay = RETRY_FIRST;
    onChange('disconnected', 'Disconnected');
  }

  return { open, settle, lose, leave, send: (text) => socket.send(text) };
}

/* ------------------------------------------------------- words and answers */

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

const onOp = {
  welcome(frame) {
    link.settle();
    model.me = frame;
    log.note(`welcome, you are ${frame.id}, role ${frame.role}, car ${frame.car}`);
    onLink('connected', `Connected as ${frame.id}`);
    picture.offer(frame.camera_url);
  },

  state(frame) {
    const before = model.state;
    model.state = frame;
    if (!before) return; // how things stand at first is no change
    if (frame.driver !== before.driver) log.note(`driver: ${driverName(frame)}`);
    if (frame.cause && frame.cause !== before.cause) log.note(causeText(frame), 'warn');
    if (frame.estop !== before.estop) log.note(`emergency stop ${frame.estop ? 'on' : 'off'}`, 'bad');
  },

  ack(frame) {
    answered(frame.applied ? `ack ${frame.us} µs` : 'overtaken by a newer word', 'good');
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
    releaseAll(); // what was held before a loss must be pressed anew after it
    log.note(text, state === 'disconnected' ? 'bad' : 'note');
  }
  draw();
}

const link = createLink(onLink, (frame) => {
  if (!onOp[frame.op]) return;
  onOp[frame.op](frame);
  draw();
});

// A socket can hang without ever closing; only the missing answers tell.
setInterval(() => {
  const silence = unanswered && performance.now() - unanswered;
  if (silence > DEAD) return link.lose();
  if (silence > QUIET && !model.quiet) log.note('no answer from the car', 'bad');
  model.quiet = silence > QUIET;
  if (performance.now() - model.refusedAt > REFUSAL_SHOWN) model.refusal = '';
  draw();
}, 250);

$('connect').onclick = () => (model.link === 'disconnected' ? link.open() : link.leave());

/* -------------------------------------------------------------------- hold */

// Words held down, each by a source (a pointer or a key). The newest is in
// force and repeated; letting it go brings back the one held before it.
function createHold(every, say, onEmpty) {
  const held = [];
  let timer = 0;
  const newest = () => held[held.length - 1];

  function follow() {
    clearInterval(timer);
    if (!held.length) return onEmpty();
    say(newest().word);
    timer = setInterval(() => say(newest().word), every());
  }

  return {
    has: (word) => held.some((one) => one.word === word),
    press(source, word) {
      if (held.some((one) => one.source === source)) return;
      if (word === 'stop') held.length = 0; // what it stopped must not come back
      held.push({ source, word });
      follow();
    },
    release(isMeant) {
      const before = newest();
      held.splice(0, held.length, ...held.filter((one) => !isMeant(one.source)));
      if (newest() !== before) follow();
    },
  };
}

const driveHold = createHold(() => model.me.ttl_ms / 4, send, () => {
  if (!otherDriver()) send('stop'); // what was refused needs none, and the other's car would stop
});
const lookHold = createHold(() => CAMERA_EVERY, send, () => {});

function press(source, word) {
  if ($(word).disabled) return;
  (DRIVE.includes(word) ? driveHold : lookHold).press(source, word);
  draw();
}

function releaseWhere(isMeant) {
  driveHold.release(isMeant);
  lookHold.release(isMeant);
  draw();
}
const release = (source) => releaseWhere((one) => one === source);
const releaseAll = () => releaseWhere(() => true);

for (const word of [...DRIVE, ...CAMERA]) {
  const button = $(word);
  button.addEventListener('pointerdown', (event) => {
    if (event.button !== 0) return;
    document.activeElement.blur(); // keys typed from now on drive again
    press(`pointer ${event.pointerId}`, word);
    button.setPointerCapture(event.pointerId);
  });
  for (const end of ['pointerup', 'pointercancel', 'lostpointercapture']) {
    button.addEventListener(end, (event) => release(`pointer ${event.pointerId}`));
  }
  button.addEventListener('contextmenu', (event) => event.preventDefault());
  // A screen reader's click comes with no pointer and no key: one short push.
  button.addEventListener('click', (event) => {
    if (event.detail !== 0) return;
    press(`click ${word}`, word);
    setTimeout(release, PUSH, `click ${word}`);
  });
}

// Buttons take no focus from the mouse: Space after a click must stop the car,
// not press the button clicked last.
document.addEventListener('mousedown', (event) => {
  if (event.target.closest('button')) event.preventDefault();
});

function wordOfKey(code) {
  const focus = document.activeElement;
  if (focus.matches('input')) return null;
  // On a focused button these two press that button.
  if (focus.matches('button') && (code === 'Space' || code === 'Enter')) {
    return focus.matches('.pad button') ? focus.id : null;
  }
  return KEYS[code];
}

addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) {
    // The key is the browser's, and a held one's keyup may never come.
    return releaseWhere((source) => source.startsWith('key'));
  }
  const word = wordOfKey(event.code);
  if (!word) return;
  event.preventDefault();
  if (!event.repeat) press(`key ${event.code}`, word);
});
addEventListener('keyup', (event) => {
  release(`key ${event.code}`);
  if (wordOfKey(event.code)) event.preventDefault(); // Firefox clicks on Space up
});

addEventListener('blur', releaseAll);
addEventListener('pagehide', releaseAll);
document.addEventListener('visibilitychange', () => document.hidden && releaseAll());

/* ------------------------------------------------------------- typed words */

const typed = [''];
let typedAt = 0; // where the arrow keys stand in it

$('talk').onsubmit = (event) => {
  event.preventDefault();
  const text = $('say').value.trim();
  if (!text) return;
  send(text);
  typed.splice(-1, 1, text, '');
  typedAt = typed.length - 1;
  $('say').value = '';
};

$('say').onkeydown = (event) => {
  const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  if (!step) return;
  event.preventDefault();
  typedAt = Math.max(0, Math.min(typed.length - 1, typedAt + step));
  $('say').value = typed[typedAt];
};

/* ----------------------------------------------------------------- picture */

const picture = (() => {
  const STORE = 'roverd.camera-url';
  const image = $('camera');
  const field = $('camera-url');
  let offered = ''; // the address the server names
  let url = ''; // the one on show

  function tell(text, retry = false) {
    put($('camera-note'), text);
    $('camera-retry').hidden = !retry;
    image.hidden = Boolean(text);
  }

  // The address to load, or '' when it is none for http: or https:.
  function parse(address) {
    try {
      const parsed = new URL(address.replace('HOST', location.hostname));
      return /^https?:$/.test(parsed.protocol) ? parsed.href : '';
    } catch {
      return '';
    }
  }

  function show() {
    const address = field.value.trim() || offered;
    image.removeAttribute('src');
    if (!address) return tell('No camera configured');
    url = parse(address);
    if (!url) return tell(`“${address}” is no camera address: it must start with http:// or https://`);
    tell(`Waiting for the picture from ${url}`);
    image.src = url;
  }

  image.onload = () => tell('');
  image.onerror = () => tell(`No picture from ${url}: set the address below or start mjpg-streamer`, true);
  $('camera-retry').onclick = show;
  $('camera-form').onsubmit = (event) => {
    event.preventDefault();
    show();
    const address = field.value.trim();
    if (!address || parse(address)) localStorage.setItem(STORE, address);
  };
  try {
    field.value = localStorage.getItem(STORE) || '';
  } catch {
    // This browser keeps no data; the field still works for this visit.
  }

  return {
    offer(address) {
      offered = address || '';
      field.placeholder = parse(offered) || 'http://…';
      show();
    },
  };
})();

/* -------------------------------------------------------------------- view */

const driverName = ({ driver }) => (driver === model.me.id ? 'you' : driver || 'free');

function causeText({ cause }) {
  const known = {
    ttl: `no command for ${model.me.ttl_ms} ms`,
    disconnect: 'the driver’s connection was lost',
    fault: 'a GPIO line failed',
    estop: 'emergency stop',
  };
  return cause ? `stopped: ${known[cause] || cause}` : 'none';
}

function drawMotor(side, value) {
  const motor = $(`motor-${side}`);
  const [way, arrow] = value > 0 ? ['forward', '↑'] : value < 0 ? ['backward', '↓'] : ['', ''];
  const percent = value === '' ? UNKNOWN : `${Math.round(Math.abs(value) * 100)}%`;
  motor.dataset.value = value;
  motor.style.setProperty('--value', value || 0);
  motor.setAttribute('aria-label', `${side} motor ${way} ${percent}`);
  put(motor.querySelector('b'), arrow + percent);
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

// The lines keep their places while unknown, so that nothing jumps.
function drawLines(levels) {
  const list = $('lines');
  const names = Object.keys(levels || {});
  if (levels && names.join() !== Array.from(list.children, (row) => row.dataset.line).join()) {
    list.replaceChildren(...names.map((name) => {
      const row = document.createElement('li');
      row.dataset.line = name;
      row.append(name, document.createElement('b'));
      return row;
    }));
  }
  for (const row of list.children) {
    row.dataset.level = levels ? levels[row.dataset.line] : '';
    put(row.querySelector('b'), row.dataset.level || '?');
  }
}

function drawControl(word, usable, hold) {
  $(word).disabled = !usable;
  $(word).toggleAttribute('data-held', hold.has(word));
}

function notice({ state, quiet, refusal }) {
  if (!online()) return ['The car cannot be driven and its state is unknown.', 'bad'];
  if (quiet) return ['No answer from the car: its state is unknown.', 'bad'];
  if (refusal) return [refusal, 'warn'];
  if (state && state.estop) return ['Emergency stop is on: the car does not move.', 'bad'];
  if (!mayDrive()) return ['', ''];
  if (otherDriver()) return [`${otherDriver()} drives; wait until it leaves or pauses`, 'warn'];
  return ['Hold an arrow to drive, let go to stop.', ''];
}

function draw() {
  const { me, state } = model;
  const live = online() && state && !model.quiet; // else what is known is old
  document.body.dataset.live = live ? 'yes' : 'no';

  $('status').dataset.state = model.link;
  put($('status'), model.linkText);
  put($('connect'), model.link === 'disconnected' ? 'Connect' : 'Disconnect');
  if (me) {
    const simulated = me.car === 'simulated';
    $('car').toggleAttribute('data-simulated', simulated);
    put($('car'), simulated ? 'no real line is touched' : `car on ${me.car}`);
  }

  drawMotor('left', live ? state.motion.left : '');
  drawMotor('right', live ? state.motion.right : '');
  drawGaze(live ? state.camera : null);
  drawLines(live ? state.lines : null);
  put($('driver'), live ? driverName(state) : UNKNOWN);
  put($('viewers'), live ? String(state.viewers) : UNKNOWN);
  put($('cause'), live ? causeText(state) : UNKNOWN);
  $('cause').toggleAttribute('data-alarm', Boolean(live && state.cause));

  const [text, kind] = notice(model);
  put($('notice'), text);
  $('notice').className = kind;
  $('role-note').hidden = !online() || mayDrive();

  for (const word of DRIVE) drawControl(word, mayDrive(), driveHold);
  for (const word of CAMERA) drawControl(word, mayDrive() && !(state && !state.camera), lookHold);
  $('say').disabled = $('send').disabled = !online();
}

link.open();
