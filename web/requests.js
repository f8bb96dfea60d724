// What was asked of the server. It answers each message once: one with an id by
// that id, in whatever order; words have none, and are answered in their order.
import { log } from './talk.js';

export function createRequests(transmit) {
  const open = []; // those not yet answered, the oldest first
  let lastId = 0;
  let answeredAt = 0; // the last of them, by performance.now()

  function ask(message, text = message.op, then = () => {}) {
    const id = ++lastId;
    if (transmit(JSON.stringify({ ...message, id }))) note({ id, op: message.op, text, then });
  }

  function say(text) {
    const message = parse(text);
    if (message) ask(message, text);
    else if (transmit(text)) note({ op: text.split(' ')[0], text, then: () => {} });
  }

  function note(request) {
    open.push({ ...request, at: performance.now(), write: log.sent(request.text) });
  }

  // Removes the request that is meant and returns it, undefined if there is none.
  function take(isMeant) {
    const index = open.findIndex(isMeant);
    if (index < 0) return undefined;
    answeredAt = performance.now();
    return open.splice(index, 1)[0];
  }

  // Finds what a message answers. The server's own word that the driver keeps the
  // helm looks like the answer to a claim.
  const answered = ({ id, code }) => take((one) => one.id === id && (id !== undefined || code !== 'refused' || one.op === 'claim'));

  return {
    ask,
    say,
    answered,
    answeredByState: () => take(({ op }) => op === 'state'),
    // For how long no answer has come, though one is due.
    silence: () => (open.length ? performance.now() - Math.max(answeredAt, open[0].at) : 0),
    forget: () => open.splice(0),
  };
}

// JSON typed by hand gets an id as any other; what only looks like it goes out as it
// is, for the server to say what is wrong.
function parse(text) {
  try {
    const message = JSON.parse(text);
    return text.startsWith('{') ? message : null;
  } catch {
    return null;
  }
}
