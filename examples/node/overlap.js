// SPDX-License-Identifier: Apache-2.0
'use strict';

/*
 * A client of overlapd for Node.js, from docs/PROTOCOL.md alone: level 0, so that the bytes that are sent and received
 * travel in the frames, and a Unix stream socket is all it takes. Node's standard library and nothing else.
 *
 *   const session = await Session.open();
 *   const socket = await session.thread.connect('example.org', 80);
 *   await socket.send('GET / HTTP/1.0\r\n\r\n');
 *   for await (const chunk of socket) process.stdout.write(chunk);
 *   await session.close();
 *
 * A Session has one Thread from the start, and more by session.attach(). A thread is a connection to the daemon,
 * nothing else: what is posted on one thread keeps its order. Requests (bind, listen, close) return promises; what
 * overlaps (connect, accept, recv, send...) returns an Operation, which can be awaited, cancelled, or asked for its
 * verdict.
 *
 * What the session has no room for, credits or bytes of payload, waits in the client, in the order of the calls: what
 * sends and what receives apart (or it fails with ENOBUFS at once, with `wait: false`). A request does not wait behind
 * it: await a send before a shutdown.
 * A send that has not ended when its socket or session is closed is cut off: await it before that, too.
 *
 * When the daemon goes, or turns out to be something else, everything ends with ECONNABORTED: the operations that are
 * pending, the requests, and all that comes later.
 */

const { EventEmitter } = require('node:events');
const net = require('node:net');
const { OverlapError, E, REASON, REASONS, garbled, packMessage, unpackMessage, FAMILIES, TYPES, ADDRESS_SIZE,
  packAddress, unpackAddress, packAddressSlots, unpackAddressBytes, KIND, BODY_MAX, OP, MESSAGE, POLL, RECORD,
  INLINE_MAX, SEND_MAX, heldBy, packFrame, packPost, unpackRecords } = require('./wire.js');

// --- Operations ------------------------------------------------------------------------------------------------------

/**
 * An operation that was posted, or waits to be. Await it for its result; a failure is an OverlapError.
 */
class Operation {
  #resolve;
  #reject;
  #settle;

  /** @package */
  constructor(thread, tag, entry) {
    const isOut = [OP.CONNECT, OP.SEND, OP.SENDTO].includes(entry.op);
    Object.assign(this, { thread, tag, entry, way: isOut ? 'out' : 'in', held: heldBy(entry), position: 0 });
    /** @type {'waiting'|'pending'|'done'} waiting: for credits or payload, not yet sent */
    this.state = 'waiting';
    /** How many bytes were transferred, also by an operation that failed. */
    this.bytes = 0;
    this.done = new Promise((resolve, reject) => { this.#resolve = resolve; this.#reject = reject; });
    /**
     * With `verdict: true`: resolves, once this is known, to whether the operation is done or truly pending. One that
     * was refused is done, and failed.
     * @type {Promise<'pending'|'done'>}
     */
    this.verdict = new Promise((resolve) => { this.#settle = resolve; });
  }

  then(...handlers) { return this.done.then(...handlers); }
  catch(handler) { return this.done.catch(handler); }
  finally(handler) { return this.done.finally(handler); }

  /** Cancels this operation. Resolves to 1, or 0 if it had ended before; what it came to, awaiting it tells. */
  async cancel() {
    if (this.state === 'waiting') return this.thread.session.withdraw(this), 1;
    try {
      return await this.thread.cancel({ socket: this.entry.socket, tag: this.tag });
    } catch (error) {
      if (error.errno === E.NOENT) return 0;
      throw error;
    }
  }

  /** @package */
  settle() { this.#settle(this.state); }

  /** @package */
  fail(status, reason, text, more) {
    this.state = 'done';
    this.#reject(new OverlapError(this.entry.name, status, reason, text, more));
    this.settle();
  }

  /** @package A record has come. Throws if it cannot be the daemon's. */
  finish({ thread, bytes, value, status, flags, reason, payload }) {
    const { entry } = this;
    const refused = Boolean(flags & RECORD.REFUSED);
    const expected = refused || entry.payload && entry.op !== OP.RESOLVE || !entry.inline ? [0]
      : entry.op === OP.RECVFROM ? [bytes, bytes + entry.auxLength] : [bytes];
    if (thread !== this.thread.number) throw garbled(`thread ${thread} did not post this ${entry.name}`);
    if (bytes > (entry.op === OP.RESOLVE ? entry.auxLength : entry.length) || refused && bytes) {
      throw garbled(`${bytes} bytes are more than this ${entry.name} can have moved`);
    }
    if (!expected.includes(payload.length)) {
      throw garbled(`${payload.length} bytes came with a ${entry.name} of ${bytes}`);
    }
    this.bytes = bytes;
    const truncated = Boolean(flags & RECORD.TRUNCATED);
    const result = { bytes, value, data: payload.subarray(0, bytes), aux: payload.subarray(bytes), truncated };
    if (status < 0 && !(truncated && entry.op === OP.RECVFROM)) {
      this.fail(status, reason, '', { bytes, data: result.data, refused, truncated });
    } else {
      this.state = 'done';
      this.#resolve(entry.result?.(result));
    }
    // Without a verdict that is still to come, this is one.
    if (!entry.verdict) this.settle();
  }
}

// --- Threads: one connection each ------------------------------------------------------------------------------------

/**
 * @typedef {object} PostOptions
 * @property {AbortSignal} [signal]  cancels the operation
 * @property {boolean} [wait]        false: fail with ENOBUFS instead of waiting for credits or room for the payload
 * @property {boolean} [verdict]     ask the daemon whether the operation is done or pending: see Operation.verdict
 */

/** A channel of the session. What is posted on one thread is taken in that order. */
class Thread {
  #stream;
  #received = Buffer.alloc(0);
  #requests = new Map();
  #lastId = 0;
  #posted = 0; // entries that were sent
  #settled = 0; // of these, what the last verdict spoke for
  #unsettled = []; // operations that want a verdict
  #end = null; // why the connection is of no use any more
  #closed;

  /** @package */
  constructor(session, number, path) {
    Object.assign(this, { session, number, belongs: false });
    this.#stream = net.connect(path);
    this.#stream.on('data', (bytes) => this.#read(bytes));
    this.#stream.on('error', (error) => this.fail(error));
    this.#closed = new Promise((resolve) => this.#stream.on('close', () => {
      this.fail(new Error('the connection was closed'));
      resolve();
    }));
  }

  /** @package Introduces the connection: the daemon says who may come, and why not. */
  async introduce(what, fields) {
    try {
      return await this.request(what, fields);
    } catch (error) {
      this.destroy();
      const why = error.cause; // what a Notice or connect(2) said is worth more than the hang-up behind it
      if (why?.errno === undefined) throw error;
      throw new OverlapError(`overlapd at ${this.session.path}`, why.errno, why.reason, why.text ?? why.message,
        { cause: why });
    }
  }

  /**
   * Sends a request of overlapd.proto, by the name and the fields of the table above.
   * @param {string} what
   * @param {object} fields
   * @returns {Promise<object>} the reply; one of a negative status is thrown as an OverlapError
   */
  async request(what, fields) {
    if (this.#end) throw this.#end;
    const id = this.#lastId = this.#lastId % 0xffffffff + 1;
    const reply = new Promise((resolve, reject) => this.#requests.set(id, { what, resolve, reject }));
    this.#stream.write(packFrame(KIND.CONTROL, packMessage('Request', { id, [what]: fields })));
    return reply;
  }

  /**
   * Posts an entry. The methods of Socket are more comfortable.
   * @param {object} entry    op, socket, length of the buffer, and what else packPost() reads
   * @param {PostOptions} options
   * @returns {Operation}
   */
  post(entry, { signal, wait = true, verdict = false } = {}) {
    signal?.throwIfAborted();
    const operation = new Operation(this, this.session.nextTag(), { length: 0, auxLength: 0, ...entry, verdict });
    if (this.#end) operation.fail(this.#end.errno, this.#end.reason, this.#end.text, { cause: this.#end });
    else this.session.admit(operation, wait);
    if (signal) {
      const abort = () => operation.cancel().catch(() => {});
      signal.addEventListener('abort', abort, { once: true });
      operation.finally(() => signal.removeEventListener('abort', abort)).catch(() => {});
    }
    return operation;
  }

  /** @package The session has room. */
  send(operation) {
    operation.state = 'pending';
    operation.position = ++this.#posted;
    if (operation.entry.verdict) this.#unsettled.push(operation);
    for (const frame of packPost(operation.tag, operation.entry)) this.#stream.write(frame);
  }

  /** Keeps what is posted and asked until uncork(): it leaves in one system call. */
  cork() { this.#stream.cork(); }
  uncork() { this.#stream.uncork(); }

  /**
   * Opens a socket of the session whose operations this thread posts.
   * @param {'inet'|'inet6'|'unix'} family
   * @param {'stream'|'datagram'} type
   */
  async socket(family = 'inet', type = 'stream') {
    const { socketOpen } = await this.request('socketOpen', { family: FAMILIES[family], type: TYPES[type] });
    return new Socket(this, socketOpen.socket, family, type);
  }

  /** Resolves a name and connects a stream to the first of its addresses that answers. */
  async connect(host, port, options) {
    let failure;
    for (const address of await this.resolve(host, { ...options, port, type: 'stream' })) {
      const socket = await this.socket(address.family);
      try {
        await socket.connect(address, options);
        return socket;
      } catch (error) {
        failure = error;
        await socket.close();
      }
    }
    throw failure;
  }

  /** A stream socket that listens at an address. */
  async listen(host, port, backlog = 128) {
    const socket = await this.socket(net.isIPv6(host) ? 'inet6' : 'inet');
    await socket.setOption('REUSE_ADDRESS', 1);
    await socket.bind({ host, port });
    await socket.listen(backlog);
    return socket;
  }

  /**
   * Asks the daemon's machine for the addresses of a name.
   * @param {string} name
   * @param {{family?: string, type?: string, port?: number, max?: number} & PostOptions} options
   * @returns {Operation} of Address[]
   */
  resolve(name, { family, type, port = 0, max = 16, ...options } = {}) {
    const payload = Buffer.from(name);
    const other = port | (FAMILIES[family] ?? 0) << 16 | (TYPES[type] ?? 0) << 24;
    const result = ({ data }) => Array.from({ length: data.length / ADDRESS_SIZE }, (_, i) =>
      unpackAddressBytes(data.subarray(i * ADDRESS_SIZE)));
    return this.post({ name: `resolve ${name}`, op: OP.RESOLVE, socket: 0n, inline: true, payload,
      length: payload.length, auxLength: max * ADDRESS_SIZE, other, result }, options);
  }

  /**
   * Cancels operations, those of this thread that were posted before among them.
   * @param {{socket?: bigint, tag?: bigint, thread?: number, all?: boolean}} which   without a socket: of all
   * @returns {Promise<number>} how many ended with ECANCELED. ENOENT is thrown where there was none
   */
  async cancel({ socket = 0n, all, ...which }) {
    const { cancel } = await this.request('cancel', { socket, ...which, ...all && { all: 1 } });
    return cancel?.cancelled ?? 0;
  }

  /** The counters of the worker that serves the session. */
  async status() {
    return (await this.request('status', {})).status_report;
  }

  /** Ends the thread: what it posted is cancelled first, its sends, too. The first thread ends the session. */
  async close() {
    if (this === this.session.thread) return this.session.close();
    this.session.withdrawAll(this);
    await this.cancel({ thread: this.number }).catch((error) => {
      if (error.errno !== E.NOENT) throw error;
    });
    await this.destroy();
  }

  /** @package Sends what is on its way, and closes. */
  destroy() {
    this.#end ??= new OverlapError('overlapd', E.CANCELED, REASON.SESSION_ENDED, 'this thread was closed');
    this.session.threads.delete(this);
    this.#stream.end(() => this.#stream.destroy());
    return this.#closed;
  }

  /** @package The connection is lost, or of no use. */
  fail(cause) {
    if (!this.#end) {
      this.#end = new OverlapError('overlapd', E.CONNABORTED, REASON.DAEMON_GONE, '', { cause });
      this.#stream.destroy();
      this.session.threads.delete(this);
      if (this.belongs) this.session.lose(cause);
    }
    for (const { reject } of this.#requests.values()) reject(this.#end);
    this.#requests.clear();
  }

  #read(bytes) {
    this.#received = this.#received.length ? Buffer.concat([this.#received, bytes]) : bytes;
    try {
      while (this.#received.length >= 8) {
        const length = this.#received.readUInt32LE(0);
        const kind = this.#received.readUInt8(4);
        // No descriptors: level 0 asks for none. The rest is reserved.
        if (kind !== KIND.CONTROL && kind !== KIND.RECORDS || length < 1 || length > BODY_MAX[kind] ||
            this.#received.readUInt8(5) || this.#received.readUInt16LE(6)) throw garbled('what came is no frame');
        if (this.#received.length < 8 + length) return;
        const body = this.#received.subarray(8, 8 + length);
        this.#received = this.#received.subarray(8 + length);
        if (kind === KIND.RECORDS) unpackRecords(body).forEach((record) => this.#takeRecord(record));
        else this.#takeMessage(unpackMessage('FromDaemon', body));
      }
    } catch (error) {
      this.fail(error);
    }
  }

  #takeMessage({ reply, notice }) {
    if (reply) {
      const { id = 0, status = 0, reason, text } = reply;
      const request = this.#requests.get(id);
      if (!request) throw garbled(`a reply to ${id}, which was not asked: ${text ?? status}`);
      this.#requests.delete(id);
      if (status < 0) request.reject(new OverlapError(request.what, status, reason, text));
      else request.resolve(reply);
    } else if (notice) {
      const error = new OverlapError('overlapd', notice.status ?? 0, notice.reason, notice.text);
      this.session.emit('notice', error);
      if (notice.closing) this.fail(error);
    }
  }

  #takeRecord(record) {
    if (record.kind === 0) this.session.finish(this, record);
    if (record.kind !== 2) return; // 1 is an APC, which nobody can queue without a handle; others are not known yet
    const settled = Number(record.value);
    if (settled > this.#posted || settled < this.#settled) {
      throw garbled(`a verdict on ${settled} of ${this.#posted} entries`);
    }
    this.#settled = settled;
    while (this.#unsettled.length && this.#unsettled[0].position <= settled) this.#unsettled.shift().settle();
  }
}

// --- Sessions --------------------------------------------------------------------------------------------------------

/** A session. Emits 'notice' (an OverlapError) when the daemon says something, 'close' (the same) when it is lost. */
class Session extends EventEmitter {
  #operations = new Map();
  // Operations that wait for room. What sends may hold half of the bytes, what receives the other half: else sends to a
  // peer that waits for its own sends could leave no room for the receives that would set them both free.
  #queues = { out: [], in: [] };
  #free = { credits: 0, out: 0, in: 0 };
  #lastTag = 0n;
  #lastThread = 1;
  #ended = null;

  /**
   * @param {{path?: string, credits?: number, client?: string}} options   credits: how many operations one wishes to
   *   have in flight at once; 0 lets the daemon choose
   * @returns {Promise<Session>}
   */
  static async open({ path, credits = 0, client = 'overlap.js 1' } = {}) {
    const session = new Session();
    session.path = path || process.env.OVERLAPD_SOCKET || '/run/overlapd/overlapd.sock';
    session.threads = new Set();
    /** The thread that every session has. */
    session.thread = new Thread(session, session.#lastThread, session.path);
    const { hello } = await session.thread.introduce('hello', { versionMin: 1, versionMax: 1, level: 0,
      thread: session.thread.number, credits, client });
    if (hello?.version !== 1 || hello.level || hello.secret?.length !== 16) {
      session.thread.destroy();
      throw new OverlapError('overlapd', E.PROTO, REASON.VERSION,
        `version ${hello?.version} at level ${hello?.level} was granted, and not asked for`);
    }
    session.#join(session.thread);
    /** What the daemon granted: credits, inlineBytes, sockets, engine... */
    session.granted = hello;
    session.half = (hello.inlineBytes ?? 0) / 2;
    session.#free = { credits: hello.credits ?? 0, out: session.half, in: session.half };
    return session;
  }

  #join(thread) {
    thread.belongs = true;
    this.threads.add(thread);
    return thread;
  }

  /** Opens a further thread: one more connection. */
  async attach() {
    if (this.#ended) throw this.#ended;
    const thread = new Thread(this, ++this.#lastThread, this.path);
    const { session, secret } = this.granted;
    await thread.introduce('attach', { session, secret, thread: thread.number });
    return this.#join(thread);
  }

  /** Ends the session: its sockets are closed, what is pending ends with ECANCELED. */
  async close() {
    this.#finishAll(new OverlapError('overlapd', E.CANCELED, REASON.SESSION_ENDED));
    await Promise.all([...this.threads].map((thread) => thread.destroy()));
  }

  /** @package */
  nextTag() { return ++this.#lastTag; }

  /** @package Sends an operation if there is room, else keeps it. */
  admit(operation, wait) {
    const { length, name } = operation.entry;
    const queue = this.#queues[operation.way];
    if (length > SEND_MAX || operation.held > this.half) {
      operation.fail(E.MSGSIZE, REASON.BUFFER_TOO_LONG, `${length} bytes are more than one ${name} may have`);
    } else if (!wait && (queue.length || !this.#fits(operation))) {
      operation.fail(E.NOBUFS, this.#free.credits ? REASON.QUOTA : REASON.CREDITS);
    } else {
      queue.push(operation);
      this.#pump();
    }
  }

  #fits({ way, held }) { return this.#free.credits > 0 && this.#free[way] >= held; }

  #pump() {
    for (const queue of Object.values(this.#queues)) {
      while (queue.length && this.#fits(queue[0])) {
        const operation = queue.shift();
        this.#free.credits--;
        this.#free[operation.way] -= operation.held;
        this.#operations.set(operation.tag, operation);
        operation.thread.send(operation);
      }
    }
  }

  /** @package */
  withdraw(operation) {
    this.#queues[operation.way] = this.#queues[operation.way].filter((each) => each !== operation);
    operation.fail(E.CANCELED, REASON.CANCELLED, 'cancelled before it was sent');
    this.#pump();
  }

  /** @package */
  withdrawAll(thread) {
    for (const operation of Object.values(this.#queues).flat()) {
      if (operation.thread === thread) this.withdraw(operation);
    }
  }

  /** @package The record of an operation. Those of a thread that has ended come on the first. */
  finish(channel, record) {
    const operation = this.#operations.get(record.tag);
    if (!operation || channel !== operation.thread && channel !== this.thread) {
      throw garbled(`a record of the tag ${record.tag}`);
    }
    operation.finish(record);
    this.#operations.delete(record.tag);
    this.#free.credits++;
    this.#free[operation.way] += operation.held;
    this.#pump();
  }

  /** @package One connection was lost: so is everything. */
  lose(cause) {
    if (this.#ended) return;
    const error = new OverlapError('overlapd', E.CONNABORTED, REASON.DAEMON_GONE, cause.message, { cause });
    this.#finishAll(error);
    for (const thread of this.threads) thread.fail(cause);
    this.emit('close', error);
  }

  #finishAll(error) {
    this.#ended ??= error;
    for (const operation of [...this.#operations.values(), ...Object.values(this.#queues).flat()]) {
      operation.fail(error.errno, error.reason, error.text, { cause: error.cause });
    }
    this.#operations.clear();
    this.#queues = { out: [], in: [] };
  }
}

// --- Sockets ---------------------------------------------------------------------------------------------------------

const OPTIONS = ['NONE', 'REUSE_ADDRESS', 'REUSE_PORT', 'KEEP_ALIVE', 'KEEP_ALIVE_IDLE', 'KEEP_ALIVE_INTERVAL',
  'KEEP_ALIVE_COUNT', 'NO_DELAY', 'CORK', 'SEND_BUFFER', 'RECEIVE_BUFFER', 'USER_TIMEOUT', 'V6_ONLY', 'ERROR',
  'QUICK_ACK', 'TRAFFIC_CLASS', 'OOB_INLINE', 'BROADCAST', 'HOPS', 'MULTICAST_HOPS', 'MULTICAST_LOOP'];
const DIRECTIONS = { receive: 1, send: 2, both: 3 };

/** A socket of the session, and the thread that posts its operations. The daemon owns it: close it. */
class Socket {
  /** @package */
  constructor(thread, id, family, type) { Object.assign(this, { thread, id, family, type }); }

  /** The same socket for another thread. */
  on(thread) { return new Socket(thread, this.id, this.family, this.type); }

  #ask(what, fields) { return this.thread.request(what, { socket: this.id, ...fields }); }
  #post(name, op, entry, options) { return this.thread.post({ name, op, socket: this.id, ...entry }, options); }

  /** @param {Address} address */
  async bind(address) { await this.#ask('socketBind', { address: packAddress(this.family, address) }); }
  async listen(backlog = 128) { await this.#ask('socketListen', { backlog }); }
  /** @returns {Promise<Address>} of this side */
  async name() { return unpackAddress((await this.#ask('socketName')).socketName.address); }
  /** @returns {Promise<Address>} of the other side */
  async peer() { return unpackAddress((await this.#ask('socketName', { peer: 1 })).socketName.address); }
  /** @param {string} option  a name of enum Option, without OPTION_ */
  async setOption(option, value) {
    await this.#ask('optionSet', { option: OPTIONS.indexOf(option), value: Number(value) });
  }
  async getOption(option) {
    return (await this.#ask('optionGet', { option: OPTIONS.indexOf(option) })).option?.value ?? 0;
  }
  /** @param {'send'|'receive'|'both'} direction  SEND leaves behind the sends that were posted */
  async shutdown(direction = 'send') { await this.#ask('shutdown', { direction: DIRECTIONS[direction] }); }
  /** Cancels all operations on this socket. @returns {Promise<number>} how many; ENOENT is thrown if there was none */
  async cancel() { return this.thread.cancel({ socket: this.id, all: true }); }
  /** What is pending ends with ECANCELED; resolves when it has. */
  async close() { await this.#ask('socketClose'); }

  /** @returns {Operation} of nothing */
  connect(address, options) {
    return this.#post('connect', OP.CONNECT, { slots: packAddressSlots(this.family, address) }, options);
  }

  /** @returns {Operation} of a Socket of the same thread */
  accept(options) {
    const result = ({ value }) => new Socket(this.thread, value, this.family, this.type);
    return this.#post('accept', OP.ACCEPT, { result }, options);
  }

  /**
   * Receives what comes, at most `length` bytes (65,535 at most).
   * @param {number} length
   * @param {{peek?: boolean, waitall?: boolean} & PostOptions} options
   * @returns {Operation} of a Buffer, empty at the end of the stream
   */
  recv(length = INLINE_MAX, { peek, waitall, ...options } = {}) {
    return this.#post('recv', OP.RECV, { inline: true, length: this.#fitting(length),
      flags: (peek ? MESSAGE.PEEK : 0) | (waitall ? MESSAGE.WAITALL : 0), result: ({ data }) => data }, options);
  }

  /**
   * Sends all bytes: on a stream at most 1 MiB in one operation, on a datagram socket one datagram.
   * @param {Buffer|string} data
   * @returns {Operation} of the number of bytes
   */
  send(data, options) {
    const payload = Buffer.from(data);
    if (this.type === 'datagram') this.#fitting(payload.length);
    return this.#post('send', OP.SEND, { inline: true, payload, length: payload.length, result: ({ bytes }) => bytes },
      options);
  }

  /** @returns {Operation} of the number of bytes */
  sendto(data, address, options) {
    const payload = Buffer.from(data);
    return this.#post('sendto', OP.SENDTO, { inline: true, payload, length: this.#fitting(payload.length),
      slots: packAddressSlots(this.family, address), result: ({ bytes }) => bytes }, options);
  }

  /** @returns {Operation} of {data, address, truncated}; the address is undefined where the sender has none */
  recvfrom(length = INLINE_MAX, { peek, ...options } = {}) {
    return this.#post('recvfrom', OP.RECVFROM, { inline: true, length: this.#fitting(length), auxLength: ADDRESS_SIZE,
      flags: peek ? MESSAGE.PEEK : 0, result: ({ data, aux, truncated }) =>
        ({ data, address: aux.length ? unpackAddressBytes(aux) : undefined, truncated }) }, options);
  }

  /** @param {number} events  of POLL; ERROR and HUP always count  @returns {Operation} of those that are there */
  poll(events, options) {
    return this.#post('poll', OP.POLL, { other: events, result: ({ value }) => Number(value) }, options);
  }

  #fitting(length) {
    if (length <= INLINE_MAX) return length;
    throw new OverlapError('buffer', E.MSGSIZE, REASON.BUFFER_TOO_LONG,
      `${length} bytes: level 0 has at most ${INLINE_MAX}`);
  }

  /** What is received, until the stream ends. */
  async* [Symbol.asyncIterator]() {
    for (let data; (data = await this.recv()).length;) yield data;
  }

  /** Those who connect to a listener, until it is closed. */
  async* connections() {
    for (;;) {
      try {
        yield await this.accept();
      } catch (error) {
        if (error.errno === E.CANCELED) return;
        throw error;
      }
    }
  }
}

module.exports = { Session, Thread, Socket, Operation, OverlapError, REASONS, POLL };
