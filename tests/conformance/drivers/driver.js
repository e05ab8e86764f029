// SPDX-License-Identifier: Apache-2.0
'use strict';

/*
 * The conformance kit's driver of the client in examples/node: it does what the runner's lines say, one after another.
 * README.md, "A driver for your client", says what they mean. It has no routines and no ports, and speaks level 0.
 */

const path = require('node:path');
const readline = require('node:readline');
const { setTimeout: sleep } = require('node:timers/promises');
const { Session, OverlapError } = require(path.join(__dirname, '../../../examples/node/overlap.js'));

const sessions = new Map();
const threads = new Map();
const sockets = new Map();
const operations = new Map();

const EINPROGRESS = -115;
const ETIMEDOUT = -110;

function pattern(seed, length) {
  return Buffer.from(Uint8Array.from({ length }, (_, i) => seed + i + Math.floor(i / 251)));
}

function checksum(bytes) {
  return bytes.reduce((hash, byte) => Math.imul(hash ^ byte, 0x01000193) >>> 0, 0x811c9dc5);
}

const thread = (options) => threads.get(options.thread);
const socket = (name, options) => sockets.get(name).on(thread(options));

/** Notes what an operation comes to, for `result`; with a verdict says whether it is pending. */
async function posted(name, operation, options, done = () => {}) {
  const entry = { operation, result: null, data: Buffer.alloc(0) };
  operations.set(name, entry);
  operation.then((value) => {
    done(value);
    entry.data = Buffer.isBuffer(value) ? value : entry.data;
    entry.result = { status: 0, bytes: operation.bytes, reason: 0 };
  }).catch((error) => {
    entry.error = error;
    entry.data = error.data ?? entry.data;
    entry.result = { status: error.errno, bytes: operation.bytes, reason: error.reason };
  });
  const state = options.verdict ? await operation.verdict : operation.state;
  await sleep(0);
  const { error } = entry;
  // Without a verdict a call tells only what the client refused by itself.
  if (error && (options.verdict && error.refused || !operation.position)) throw error;
  return state === 'done' ? 'done' : 'pending';
}

const shown = (fields) => Object.entries(fields).map(([name, value]) => `${name}=${value}`).join(' ');

async function within(milliseconds, promise) {
  const timer = new AbortController();
  const late = sleep(Number(milliseconds), true, { signal: timer.signal }).catch(() => {});
  const wasLate = await Promise.race([promise.then(() => false, () => false), late]);
  timer.abort();
  if (wasLate) throw new OverlapError('wait', ETIMEDOUT);
}

/** What every posting command gives to the client: a driver that waited for credits could not be told to make room. */
const posting = (options) => ({ verdict: Boolean(options.verdict), wait: false });

const commands = {
  features: () => 'level:0 thread verdict peek waitall cork option cancel status',
  async open(name, { path: where, credits = 0 }) {
    const session = await Session.open({ path: where, credits: Number(credits), client: 'driver of overlap.js' });
    sessions.set(name, session);
    return shown({ level: session.granted.level ?? 0, credits: session.granted.credits });
  },
  async thread(name, options) {
    const session = sessions.get(options.session);
    // The first that is asked for is the one that the session was opened with.
    const isFirst = ![...threads.values()].includes(session.thread);
    threads.set(name, isFirst ? session.thread : await session.attach());
  },
  async socket(name, options) { sockets.set(name, await thread(options).socket(options.family, options.type)); },
  bind: (name, options) => socket(name, options).bind({ host: options.host, port: Number(options.port) }),
  listen: (name, options) => socket(name, options).listen(Number(options.backlog)),
  async name(name, options) {
    const { host, port } = await (options.peer ? socket(name, options).peer() : socket(name, options).name());
    return shown({ host, port });
  },
  'option-set': (name, options) => socket(name, options).setOption(options.option.toUpperCase(), options.value),
  'option-get': async (name, options) => `value=${await socket(name, options).getOption(options.option.toUpperCase())}`,
  connect: (name, options) => posted(name, socket(options.socket, options)
    .connect({ host: options.host, port: Number(options.port) }, posting(options)), options),
  accept: (name, options) => posted(name, socket(options.socket, options).accept(posting(options)), options,
    (accepted) => sockets.set(options.into, accepted)),
  recv: (name, options) => posted(name, socket(options.socket, options).recv(Number(options.len),
    { ...posting(options), peek: options.peek, waitall: options.waitall }), options),
  send: (name, options) => posted(name, socket(options.socket, options)
    .send(pattern(Number(options.seed), Number(options.len)), posting(options)), options),
  async wait(name, options) {
    await within(options.timeout, operations.get(name).operation.done);
    return commands.result(name);
  },
  async result(name) {
    await sleep(0); // what has come is noted
    return shown(operations.get(name).result ?? { status: EINPROGRESS, bytes: 0, reason: 0 });
  },
  data(name) {
    const { data } = operations.get(name);
    return shown({ len: data.length, fnv: checksum(data) });
  },
  async cancel(name, options) {
    const { operation } = operations.get(options.op) ?? {};
    const cancelled = operation ? await operation.cancel() : await socket(name, options).cancel();
    return `cancelled=${cancelled}`;
  },
  cork: (name) => threads.get(name).cork(),
  uncork: (name) => threads.get(name).uncork(),
  shutdown: (name, options) => socket(name, options).shutdown(options.how),
  status: async (_, options) => `worker=${(await thread(options).status()).workerPid}`,
  'close-socket': (name, options) => socket(name, options).close(),
  'close-thread': (name) => threads.get(name).close(),
  'close-session': (name) => sessions.get(name).close(),
};

async function obey(line) {
  const [command, ...words] = line.split(' ').filter(Boolean);
  const name = words.find((word) => !word.includes('='));
  const options = Object.fromEntries(words.map((word) => word.split(/=(.*)/s))
    .map(([key, value = true]) => [key, value]));
  try {
    const answer = await commands[command](name, options);
    return answer ? `ok ${answer}` : 'ok';
  } catch (error) {
    if (!(error instanceof OverlapError)) throw error;
    return `error ${error.errno} reason=${error.reason} ${error.message}`;
  }
}

(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) console.log(await obey(line));
  await Promise.all([...sessions.values()].map((session) => session.close()));
})();
