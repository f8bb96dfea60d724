// The words typed by hand, and the log of all that is said.
import { $, put } from './page.js';

const COLLAPSE = 2000; // milliseconds: the same word again within this is counted, not listed
const LOG_LINES = 200;

export const log = (() => {
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

  function write(line) {
    const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 30;
    line.row = line.row || begin();
    line.row.className = line.kind;
    const times = line.count > 1 ? ` ×${line.count}` : '';
    put(line.row.lastChild, line.text + times + (line.reply ? ` → ${line.reply}` : ''));
    if (atEnd) list.scrollTop = list.scrollHeight; // follow only a reader at the end
  }

  $('log-clear').onclick = () => {
    list.replaceChildren();
    last = {};
  };

  return {
    note: (text, kind = 'note') => write({ text, kind }),
    // Returns the function that writes the answer beside the word. Answers that mean
    // the same are counted, too; another begins a line of its own.
    sent(text) {
      const topic = text.startsWith('cam_') ? 'camera' : 'drive';
      const count = (isMeant) => {
        if (!isMeant(last[topic] || {})) last[topic] = { text, count: 0, kind: 'good' };
        last[topic].count += 1;
        return last[topic];
      };
      let line = count((one) => one.text === text && Date.now() - one.at < COLLAPSE);
      line.at = Date.now();
      write(line);
      return ({ reply, kind, meaning }) => {
        if (line.meaning && line.meaning !== meaning) {
          line.count -= 1;
          write(line);
          line = count((one) => one.text === text && one.meaning === meaning);
          line.at = Date.now();
        }
        write(Object.assign(line, { reply, kind, meaning }));
      };
    },
  };
})();

// Lets the words be typed, and those before brought back with the arrow keys.
export function createTalk(say) {
  const typed = [''];
  let typedAt = 0; // where the arrow keys stand in it

  $('talk').onsubmit = (event) => {
    event.preventDefault();
    const text = $('say').value.trim();
    if (!text) return;
    say(text);
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
}
