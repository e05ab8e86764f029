// SPDX-License-Identifier: Apache-2.0
'use strict';

/*
 * The bytes of the protocol of overlapd, as far as level 0 needs them: control messages (protobuf), entries, records
 * and addresses. Nothing here knows of connections; numbers and layouts are those of docs/PROTOCOL.md.
 */

const net = require('node:net');
const util = require('node:util');
const REASONS = require('./reasons.js');

// --- Errors ----------------------------------------------------------------------------------------------------------

/** What the daemon refused, or what an operation came to. */
class OverlapError extends Error {
  /**
   * @param {string} what     what was tried
   * @param {number} status   a negative Linux errno
   * @param {number} reason   a number of section 11
   * @param {string} text     what the daemon said, if it said more than the reason does
   * @param {{cause?: Error, bytes?: number, data?: Buffer, refused?: boolean, truncated?: boolean}} more
   */
  constructor(what, status, reason = 0, text = '', { cause, ...more } = {}) {
    const [reasonName, meaning] = REASONS[reason] ?? [`REASON_${reason}`, ''];
    const code = status < 0 ? util.getSystemErrorName(status) : `STATUS_${status}`;
    const said = text || (reason ? meaning : '');
    super(`${what}: ${code}${said && `: ${said}`}`, cause && { cause });
    Object.assign(this, { name: 'OverlapError', errno: status, code, reason, reasonName, text: said, ...more });
  }
}

const E = { NOENT: -2, INVAL: -22, PROTO: -71, MSGSIZE: -90, CONNABORTED: -103, NOBUFS: -105, CANCELED: -125 };
const REASON = { BUFFER_TOO_LONG: 10, BAD_ADDRESS: 13, CREDITS: 21, QUOTA: 22, CANCELLED: 23, SESSION_ENDED: 26,
  DAEMON_GONE: 27, BAD_FRAME: 29, VERSION: 36 };

/** Whoever sent this is not overlapd. */
const garbled = (text) => new OverlapError('overlapd', E.PROTO, REASON.BAD_FRAME, text);

// --- Control messages (proto/overlapd.proto, as far as level 0 needs it) ---------------------------------------------

const MESSAGES = Object.fromEntries(Object.entries({
  Request: `id:1:uint hello:2:Hello attach:3:Attach socketOpen:6:SocketOpen socketBind:7:SocketBind
    socketListen:8:SocketListen socketName:9:SocketName optionSet:10:Option optionGet:11:Option shutdown:12:Shutdown
    socketClose:13:SocketId cancel:15:Cancel status:16:Empty`,
  FromDaemon: 'reply:1:Reply notice:2:Notice',
  Reply: `id:1:uint status:2:sint reason:3:uint text:4:string hello:5:HelloReply socketOpen:7:SocketId
    socketName:8:SocketNameReply option:9:OptionReply cancel:10:CancelReply status_report:11:StatusReply`,
  Notice: 'status:1:sint reason:2:uint text:3:string closing:4:uint',
  Hello: 'versionMin:1:uint versionMax:2:uint level:3:uint thread:4:uint tid:5:uint credits:6:uint client:7:string',
  HelloReply: `version:1:uint level:2:uint session:3:fixed64 secret:4:bytes credits:5:uint sockets:8:uint
    engine:9:string engineReason:10:string inlineBytes:11:uint`,
  Attach: 'session:1:fixed64 secret:2:bytes thread:3:uint tid:5:uint',
  Address: 'family:1:uint port:2:uint scope:3:uint host:4:bytes',
  SocketOpen: 'family:1:uint type:2:uint',
  SocketId: 'socket:1:fixed64',
  SocketBind: 'socket:1:fixed64 address:2:Address',
  SocketListen: 'socket:1:fixed64 backlog:2:uint',
  SocketName: 'socket:1:fixed64 peer:2:uint',
  SocketNameReply: 'address:1:Address',
  Option: 'socket:1:fixed64 option:2:uint value:3:sint',
  OptionReply: 'value:1:sint',
  Shutdown: 'socket:1:fixed64 direction:2:uint',
  Cancel: 'socket:1:fixed64 tag:2:fixed64 thread:3:uint all:4:uint',
  CancelReply: 'cancelled:1:uint',
  Empty: '',
  StatusReply: `engine:1:string engineReason:2:string workerPid:3:uint turns:4:uint wakeups:5:uint systemCalls:6:uint
    entries:7:uint records:8:uint bytesReceived:9:uint bytesSent:10:uint sessions:11:uint sockets:12:uint
    opsInFlight:13:uint mergedOps:14:uint polls:15:uint lanes:16:uint`,
}).map(([name, fields]) => [name, fields.split(/\s+/).filter(Boolean).map((field) => {
  const [key, number, type] = field.split(':');
  return { key, number: Number(number), type, wire: { uint: 0, sint: 0, fixed64: 1 }[type] ?? 2 };
})]));

function packVarint(value) {
  const bytes = [];
  for (value = BigInt(value); value > 127n; value >>= 7n) bytes.push(Number(value & 127n) | 128);
  return Buffer.from([...bytes, Number(value)]);
}

function packField({ number, type, wire }, value) {
  const key = packVarint(number << 3 | wire);
  if (type === 'uint') return [key, packVarint(value)];
  if (type === 'sint') return [key, packVarint(value < 0 ? -2n * BigInt(value) - 1n : 2n * BigInt(value))];
  if (type === 'fixed64') {
    const eight = Buffer.alloc(8);
    eight.writeBigUInt64LE(BigInt(value));
    return [key, eight];
  }
  const body = MESSAGES[type] ? packMessage(type, value) : Buffer.from(value);
  return [key, packVarint(body.length), body];
}

function packMessage(type, message) {
  return Buffer.concat(MESSAGES[type].flatMap((field) => {
    const value = message[field.key];
    return value === undefined ? [] : packField(field, value);
  }));
}

function unpackMessage(type, body) {
  let at = 0;
  const take = (n) => {
    if (n > body.length - at) throw garbled(`a ${type} ends within a field`);
    return body.subarray(at, at += n);
  };
  const varint = () => {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const [byte] = take(1);
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return value;
    }
    throw garbled(`a number in a ${type} does not end`);
  };
  const message = {};
  while (at < body.length) {
    const key = Number(varint());
    const wire = key & 7;
    const field = MESSAGES[type].find(({ number }) => number === Math.floor(key / 8));
    let value;
    if (wire === 0) value = varint();
    else if (wire === 1) value = take(8).readBigUInt64LE();
    else if (wire === 2) value = take(Number(varint()));
    else if (wire === 5) value = take(4);
    else throw garbled(`a ${type} has a field of an unknown kind`);
    if (!field) continue;
    if (field.wire !== wire) throw garbled(`${type}.${field.key} is of another kind`);
    if (field.type === 'uint') value = Number(value);
    else if (field.type === 'sint') value = Number(value & 1n ? -(value >> 1n) - 1n : value >> 1n);
    else if (field.type === 'string') value = value.toString();
    else if (MESSAGES[field.type]) value = unpackMessage(field.type, value);
    message[field.key] = value;
  }
  return message;
}

// --- Addresses -------------------------------------------------------------------------------------------------------

/**
 * @typedef {object} Address
 * @property {'inet'|'inet6'|'unix'} [family]  a socket's own, where it is not said
 * @property {string} host    an address in figures, or a path; a path that begins with NUL is an abstract name
 * @property {number} [port]
 * @property {number} [scope] the interface of a link-local IPv6 address
 */

const FAMILIES = { unix: 1, inet: 2, inet6: 10 };
const FAMILY_NAMES = { 1: 'unix', 2: 'inet', 10: 'inet6' };
const TYPES = { stream: 1, datagram: 2 };
const ADDRESS_SIZE = 116;

function hostToBytes(family, host) {
  if (family === 'unix') return Buffer.from(host);
  if (net.isIP(host) !== (family === 'inet' ? 4 : 6)) {
    throw new OverlapError(`address ${host}`, E.INVAL, REASON.BAD_ADDRESS,
      `this is no address of the family ${family}: resolve it first`);
  }
  const [plain] = host.split('%');
  if (family === 'inet') return Buffer.from(plain.split('.').map(Number));
  const figures = plain.replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_, a, b, c, d) =>
    `${(a << 8 | b).toString(16)}:${(c << 8 | d).toString(16)}`);
  const [head, tail] = figures.split('::').map((half) => half.split(':').filter(Boolean));
  const zeros = tail ? Array(8 - head.length - tail.length).fill('0') : [];
  const groups = [...head, ...zeros, ...tail ?? []].map((group) => parseInt(group, 16));
  return Buffer.from(groups.flatMap((group) => [group >> 8, group & 255]));
}

function hostFromBytes(family, bytes) {
  if (family === 'unix') return bytes.toString();
  if (family === 'inet') return bytes.subarray(0, 4).join('.');
  const address = bytes.subarray(0, 16).toString('hex').match(/..../g).join(':');
  return new net.SocketAddress({ address, family: 'ipv6' }).address;
}

/** The address of an Address message. */
function packAddress(family, { host, port = 0, scope = 0 }) {
  return { family: FAMILIES[family], port, scope, host: hostToBytes(family, host) };
}

function unpackAddress({ family = 0, port = 0, scope = 0, host = Buffer.alloc(0) }) {
  const name = FAMILY_NAMES[family];
  return name && { family: name, host: hostFromBytes(name, host), port, ...scope && { scope } };
}

/** The slots of an entry behind its first: one for IPv4 and IPv6, two for a Unix path, however short it is. */
function packAddressSlots(family, address) {
  const { port, scope, host } = packAddress(family, address);
  if (host.length > 108) {
    throw new OverlapError(`address ${address.host}`, E.INVAL, REASON.BAD_ADDRESS, 'a path has at most 108 bytes');
  }
  const slots = Buffer.alloc(family === 'unix' ? 128 : 64);
  slots.writeUInt8(FAMILIES[family], 0);
  slots.writeUInt8(family === 'unix' ? host.length : 0, 1);
  slots.writeUInt16LE(port, 2);
  slots.writeUInt32LE(scope, 4);
  host.copy(slots, 8);
  return slots;
}

function unpackAddressBytes(bytes) {
  const family = bytes.readUInt8(0);
  const host = bytes.subarray(8, family === FAMILIES.unix ? 8 + bytes.readUInt8(1) : ADDRESS_SIZE);
  return unpackAddress({ family, port: bytes.readUInt16LE(2), scope: bytes.readUInt32LE(4), host });
}

// --- Entries and records ---------------------------------------------------------------------------------------------

const KIND = { CONTROL: 1, POST: 2, RECORDS: 3 };
const BODY_MAX = { 1: 16384, 2: 131072, 3: 131072 };
const OP = { CONNECT: 1, ACCEPT: 2, RECV: 3, SEND: 4, RECVFROM: 5, SENDTO: 6, POLL: 13, RESOLVE: 14 };
const FLAG = { VERDICT: 1, INLINE: 4, MORE: 8 };
const MESSAGE = { PEEK: 2, WAITALL: 0x100 };
const POLL = { IN: 1, PRIORITY: 2, OUT: 4, ERROR: 8, HUP: 16 };
const RECORD = { REFUSED: 1, TRUNCATED: 2 };
const SLOT = 64;
const INLINE_MAX = 65535;
const SEND_MAX = 64 * 16384;
const PIECE = 16384;

/** What an operation takes of the session's inline_bytes from its entry until its record, in whole pieces. */
const heldBy = ({ length, auxLength }) => PIECE * Math.ceil((length + auxLength) / PIECE);

function packFrame(kind, ...body) {
  const header = Buffer.alloc(8);
  header.writeUInt32LE(body.reduce((sum, part) => sum + part.length, 0), 0);
  header.writeUInt8(kind, 4);
  return Buffer.concat([header, ...body]);
}

/** The POST frames of one operation: one, or one for each piece of a long send. */
function packPost(tag, entry) {
  const frames = [];
  const pieces = Math.max(1, Math.ceil((entry.payload?.length ?? 0) / INLINE_MAX));
  for (let n = 0; n < pieces; n++) {
    const piece = entry.payload?.subarray(n * INLINE_MAX, (n + 1) * INLINE_MAX) ?? Buffer.alloc(0);
    const more = n < pieces - 1;
    const slot = Buffer.alloc(SLOT);
    slot.writeBigUInt64LE(tag, 0);
    slot.writeBigUInt64LE(entry.socket, 8);
    slot.writeUInt8(entry.op, 16);
    slot.writeUInt8(1 + (entry.slots?.length ?? 0) / SLOT, 18);
    const flags = [entry.inline && FLAG.INLINE, more && FLAG.MORE, entry.verdict && !more && FLAG.VERDICT];
    slot.writeUInt8(flags.reduce((all, flag) => all | flag, 0), 19);
    slot.writeUInt32LE(entry.flags ?? 0, 20);
    slot.writeUInt32LE(entry.payload ? piece.length : entry.length, 32);
    slot.writeBigUInt64LE(BigInt(entry.other ?? 0), 40);
    slot.writeUInt32LE(entry.auxLength, 56);
    const slots = Buffer.concat([slot, entry.slots ?? Buffer.alloc(0)]);
    const header = Buffer.alloc(8);
    header.writeUInt32LE(slots.length / SLOT, 0);
    frames.push(packFrame(KIND.POST, header, slots, piece));
  }
  return frames;
}

/** The records of a RECORDS frame, each with its payload. */
function unpackRecords(body) {
  const n = body.length < 8 ? 0 : body.readUInt32LE(0);
  let at = 8 + n * SLOT;
  if (n < 1 || at > body.length) throw garbled(`${n} records in ${body.length} bytes`);
  const records = Array.from({ length: n }, (_, i) => {
    const record = body.subarray(8 + i * SLOT, 8 + (i + 1) * SLOT);
    const payload = body.subarray(at, at += record.readUInt32LE(60));
    return { tag: record.readBigUInt64LE(0), thread: Number(record.readBigUInt64LE(8)),
      bytes: Number(record.readBigUInt64LE(32)), value: record.readBigUInt64LE(40), status: record.readInt32LE(48),
      flags: record.readUInt16LE(52), reason: record.readUInt16LE(54), kind: record.readUInt8(56), payload };
  });
  if (at !== body.length) throw garbled('the payloads of the records do not fill their frame');
  return records;
}

module.exports = { OverlapError, E, REASON, REASONS, garbled, packMessage, unpackMessage, FAMILIES, TYPES, ADDRESS_SIZE,
  packAddress, unpackAddress, packAddressSlots, unpackAddressBytes, KIND, BODY_MAX, OP, MESSAGE, POLL, RECORD,
  INLINE_MAX, SEND_MAX, heldBy, packFrame, packPost, unpackRecords };
