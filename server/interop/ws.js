'use strict';
// Node's ws against roverd: node ws.js HOST:PORT

const assert = require('assert/strict');
const { on, once } = require('events');
const WebSocket = require('ws');

const at = process.argv[2];

// open resolves to a connection and next, which resolves to its next message: [data, isBinary].
async function open(path, ...protocols) {
  const ws = new WebSocket(`ws://${at}${path}`, protocols);
  const messages = on(ws, 'message'); // keeps what comes before it is asked for
  await once(ws, 'open');
  assert.equal(ws.extensions, '', 'extensions');
  return { ws, next: async () => (await messages.next()).value };
}

// closed resolves to the code that the server closes with.
async function closed(ws) {
  const [code] = await once(ws, 'close');
  return code;
}

async function echo() {
  const { ws, next } = await open('/echo');
  assert.equal(ws.protocol, '');
  for (const size of [0, 1, 125, 126, 127, 65535, 65536, 1 << 20]) {
    for (const binary of [false, true]) {
      const sent = Buffer.alloc(size, binary ? '\u00ff\u0000\u0080' : 'text ', 'latin1');
      for (const parts of [1, 2, 7]) {
        const step = Math.ceil(size / parts);
        for (let i = 0; i < parts; i++) {
          ws.send(sent.subarray(i * step, (i + 1) * step), { binary, fin: i === parts - 1 });
        }
        const [got, isBinary] = await next();
        const what = `${size} bytes, ${binary ? 'binary' : 'text'}, in ${parts} frames`;
        assert.equal(isBinary, binary, what);
        assert.ok(sent.equals(got), `${what}: ${got.length} bytes came back, or others`);
      }
    }
  }

  ws.send('in gru', { fin: false });
  ws.ping('are you there?');
  assert.equal(String((await once(ws, 'pong'))[0]), 'are you there?', 'a pong within a message');
  ws.send('\u0308\u00dfen', { fin: true });
  assert.equal(String((await next())[0]), 'in gru\u0308\u00dfen');

  ws.close(4001, 'enough');
  assert.equal(await closed(ws), 4001, 'the code of our own close');
}

async function closedByServer() {
  const tooBig = await open('/echo');
  tooBig.ws.send(Buffer.alloc((16 << 20) + 1));
  assert.equal(await closed(tooBig.ws), 1009, 'more than 16 MiB');

  const notText = await open('/echo');
  notText.ws.send(Buffer.from([0xff]), { binary: false });
  assert.equal(await closed(notText.ws), 1007, 'text that is none');
}

async function rover() {
  for (const [path, offered, selected] of [
    ['/', [], ''],
    ['/ws', ['roverd.v1'], 'roverd.v1'],
    ['/ws', ['unknown', 'roverd.v1', 'roverd.v0'], 'roverd.v1'],
  ]) {
    const { ws, next } = await open(path, ...offered);
    assert.equal(ws.protocol, selected, `of ${offered}`);
    const welcome = JSON.parse((await next())[0]);
    assert.equal(welcome.op, 'welcome');
    assert.equal(welcome.car, 'simulated');
    ws.send('stop');
    let answer;
    do answer = JSON.parse((await next())[0]); while (answer.op === 'state');
    assert.equal(answer.op, 'ack');
    assert.equal(answer.applied, true);
    ws.close();
    assert.equal(await closed(ws), 1005, 'no code for none');
  }
}

process.exitCode = 1; // also when there is nothing left to wait for
(async () => {
  await echo();
  await closedByServer();
  await rover();
  process.exitCode = 0;
  console.log(`ok ws ${require('ws/package.json').version} on Node.js ${process.version}`);
})().catch((error) => {
  console.error('ws:', error);
  process.exit();
});
