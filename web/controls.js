// What drives: the buttons and keys that are held, and the emergency stop.
import { createHold } from './hold.js';
import { estopped, mayControl, model, otherDriver } from './model.js';
import { $, isTyping } from './page.js';
import { typeSpeed } from './speed.js';

export const DRIVE = ['up', 'left', 'stop', 'right', 'back'];
export const CAMERA = ['cam_up', 'cam_left', 'cam_init', 'cam_right', 'cam_down'];
const KEYS = {
  ArrowUp: 'up', ArrowDown: 'back', ArrowLeft: 'left', ArrowRight: 'right',
  KeyW: 'up', KeyS: 'back', KeyA: 'left', KeyD: 'right', Space: 'stop',
  KeyI: 'cam_up', KeyK: 'cam_down', KeyJ: 'cam_left', KeyL: 'cam_right', KeyC: 'cam_init',
};

// All times in milliseconds.
const CAMERA_EVERY = 200;
const PUSH = 300; // how long a screen reader's click holds a control
const CALM = 1000; // who hits the emergency stop twice must not have reset it

// The controls say words through send, and what is held through onChange.
export function createControls(send, onChange) {
  const drive = createHold(
    () => model.me.ttl_ms / 4,
    send,
    () => {
      if (!otherDriver()) send('stop'); // what was refused needs none, and the other's car would stop
    },
  );
  const look = createHold(() => CAMERA_EVERY, send, () => {});

  function press(source, word) {
    if ($(word).disabled) return;
    (DRIVE.includes(word) ? drive : look).press(source, word);
    onChange();
  }

  function releaseWhere(isMeant) {
    drive.release(isMeant);
    look.release(isMeant);
    onChange();
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

  createEmergency(send);

  function wordOfKey(code) {
    const focus = document.activeElement;
    if (focus.matches('input[type="range"]')) return code.startsWith('Arrow') ? null : KEYS[code];
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
    if (!isTyping() && typeSpeed(event.code)) return;
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

  return {
    isHeld: (word) => drive.has(word) || look.has(word),
    releaseAll,
    dropDrive: drive.drop,
    dropAll() {
      drive.drop();
      look.drop();
    },
  };
}

// The button that stops the car the moment it is touched, and once the car is
// held resets it by a whole click. Escape stops too, from anywhere, but never
// resets.
function createEmergency(send) {
  const button = $('estop');
  let pressed = ''; // what the pointer went down for
  const word = () => (estopped() ? 'reset' : 'estop');

  button.addEventListener('pointerdown', (event) => {
    if (event.button !== 0 || button.disabled) return;
    pressed = word();
    if (pressed === 'estop') send('estop');
  });
  button.addEventListener('click', (event) => {
    const byPointer = event.detail !== 0; // else a key or a screen reader clicked
    const meant = byPointer ? pressed : word();
    if (byPointer && meant === 'estop' || meant === 'reset' && !isCalm()) return;
    send(meant);
  });
  addEventListener('keydown', (event) => {
    if (event.code === 'Escape' && !event.repeat && mayControl()) send('estop');
  }, true);
}

// Whether the emergency stop has held for long enough to be reset.
export const isCalm = () => performance.now() - model.estoppedAt > CALM;
