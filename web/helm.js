// The helm: who drives, who asks for it, and the buttons for that. The main button
// leads to the helm and away from it: whatever changes under the pointer, it never
// comes to do the opposite of what was meant.
import { live, mayControl, model, otherDriver, shared } from './model.js';
import { $, isTyping, put, UNKNOWN } from './page.js';
import { log } from './talk.js';

const REFUSAL_SHOWN = 6000; // milliseconds

// A client as people call it. Anybody may take any name, so the id stays with it;
// the isolates (Unicode UAX #9) keep its letters from turning the others over.
const person = (id, name) => (name ? `\u2068${name}\u2069 (${id})` : id);

export const driverName = ({ driver, driver_name: name }) => (driver === model.me.id ? 'you' : person(driver, name) || 'free');

// Who asks for the helm. Whom it concerns is told sooner than by the state.
const claimant = () => (model.claim ? model.claim.from : model.state.claim || '');
const claimantName = () => person(claimant(), model.claim?.name);

const HOW = 'Hold an arrow to drive, let go to stop.';
const WAIT = 'Ask for the helm to drive, or wait until it is free.';

// What is said of whom, what the main button does, and what one can do at all.
const SITUATIONS = {
  unknown: () => ({ who: UNKNOWN, note: '' }),
  shared: () => ({ who: 'Everyone', note: 'may drive', hint: HOW }),
  free: () => ({ who: 'Nobody', note: 'drives', hint: HOW }),
  mine: () => ({ who: 'You', note: 'have the helm', act: 'Give back', op: 'release', hint: HOW }),
  asked: () => ({ who: claimantName(), note: 'asks for the helm', act: 'Give', op: 'grant', hint: 'Without an answer it is given.' }),
  other: () => ({ note: 'drives', act: 'Ask for the helm', op: 'claim', hint: WAIT }),
  refused: () => ({ note: 'keeps the helm', act: 'Ask for the helm', op: 'claim', hint: WAIT }),
  waiting: () => ({ note: 'is asked for the helm', act: 'Withdraw', op: 'release', hint: 'Without an answer the helm is yours.' }),
  rival: () => ({ note: `drives; ${claimantName()} asks for the helm`, hint: 'Somebody else has asked for the helm: wait for the answer.' }),
};

function situation() {
  if (!live()) return 'unknown';
  if (shared()) return 'shared';
  if (!model.state.driver) return 'free';
  const asks = claimant();
  if (!otherDriver()) return asks ? 'asked' : 'mine';
  if (asks && mayControl()) return asks === model.me.id ? 'waiting' : 'rival';
  return performance.now() - model.keptAt < REFUSAL_SHOWN ? 'refused' : 'other';
}

// How long it takes until the claim goes through by itself, if that is known.
function timeLeft() {
  const ms = model.claim ? model.claim.until - performance.now() : 0;
  return ms > 0 ? `${Math.ceil(ms / 1000)} s` : '';
}

export const helmHint = () => SITUATIONS[situation()]().hint || '';

export function drawHelm() {
  const now = situation();
  const { who = driverName(model.state), note, act = '', op = '' } = SITUATIONS[now]();
  $('helm').dataset.situation = now;
  put($('helm-who'), who);
  $('helm-who').title = who; // of which there may not be room for all
  put($('helm-note'), note);
  put($('helm-left'), timeLeft());
  put($('helm-act'), act);
  $('helm-act').value = op;
  $('helm-act').hidden = !act || !mayControl();
  $('helm-keep').hidden = now !== 'asked';
}

export function createHelm(ask) {
  // No claim is open any more; the state will say so, too.
  function settled() {
    model.claim = null;
    if (model.state) model.state.claim = '';
  }

  function opened(from, name, ms) {
    model.claim = { from, name, until: performance.now() + ms };
  }

  const ANSWERED = {
    claim: ({ op, applied, ms }) => op === 'ack' && !applied && opened(model.me.id, '', ms),
    release: settled,
    grant: settled,
    refuse: settled,
  };
  const say = (op) => op && ask({ op }, op, ANSWERED[op]);

  $('helm-act').onclick = () => say($('helm-act').value);
  $('helm-keep').onclick = () => say('refuse');
  addEventListener('keydown', (event) => {
    if (event.repeat || event.ctrlKey || event.altKey || event.metaKey || isTyping()) return;
    const key = event.key?.toUpperCase(); // what a browser fills in comes without one
    [$('helm-act'), $('helm-keep')].find((button) => !button.hidden && button.ariaKeyShortcuts === key)?.click();
  });

  return {
    // The driver, we, is asked for the helm.
    asked({ from, name, ms }) {
      opened(from, name, ms);
      log.note(`${claimantName()} asks for the helm`, 'warn');
    },
    // The driver keeps it from us.
    refused() {
      settled();
      model.keptAt = performance.now();
      log.note(`${driverName(model.state)} keeps the helm`, 'warn');
    },
    // The state has changed: a claim ends when it has gone through or is given up.
    changed(before) {
      const { claim, state } = model;
      if (claim && (state.driver === claim.from || before.claim === claim.from && !state.claim)) settled();
    },
  };
}
