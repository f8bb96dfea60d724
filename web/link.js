// All times in milliseconds.
const RETRY_FIRST = 500; // doubles up to RETRY_MOST
const RETRY_MOST = 5000;
const OPEN_WITHIN = 5000; // an attempt without a welcome by then has failed

// The connection: opens, tries again with growing delay, and reports through
// onChange(state, text) and onFrame(frame).
export function createLink(onChange, onFrame) {
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
    socket.onclose = refused;
    timer = setTimeout(lose, OPEN_WITHIN);
    onChange('connecting', `Connecting to ${location.host}…`);
  }

  function settle() { // the server took us in
    clearTimeout(timer);
    delay = RETRY_FIRST;
    socket.onclose = lose;
  }

  // A browser does not tell why it got no WebSocket. Where a token is missing, as with a roverd that has new ones since
  // it was started again, the page is another one, which asks for it.
  async function refused() {
    lose();
    const { status } = await fetch('state').catch(() => ({}));
    if (status === 401) location.reload();
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
