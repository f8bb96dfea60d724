// The driving commands, each with its number and its time, so that the server can
// tell one that was under way for too long.
import { model } from './model.js';
import { percent } from './speed.js';

// Which way each wheel turns.
const WHEELS = { up: [1, 1], back: [-1, -1], left: [-1, 1], right: [1, -1] };

export function createDrive(ask) {
  let seq = 0;
  let start = 0; // of our clock, by performance.now()

  return function drive(word) {
    const at = performance.now();
    const [left, right] = WHEELS[word].map((way) => (way * percent()) / 100);
    ask({ op: 'drive', left, right, seq: ++seq, t_ms: at - start }, `${word} ${percent()}`, ({ code }) => {
      // The answer is here so soon that the command cannot have been late: our clock
      // stood still, as it does in some browsers while the computer sleeps. The server
      // takes one that goes back as set anew.
      if (code === 'stale' && performance.now() - at < model.me.ttl_ms) start = at;
    });
  };
}
