// Words held down, each by a source (a pointer or a key). The newest is in
// force and repeated; letting it go brings back the one held before it.
export function createHold(every, say, onEmpty) {
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
    // Lets all go without a word: something else has stopped what they did.
    drop() {
      clearInterval(timer);
      held.length = 0;
    },
  };
}
