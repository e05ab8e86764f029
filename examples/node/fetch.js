#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
'use strict';

/*
 * Connects, sends a file or the standard input, and writes what comes to the standard output, both at once.
 *
 * usage: fetch.js HOST PORT [FILE]
 */

const { createReadStream } = require('node:fs');
const { once } = require('node:events');
const { Session } = require('./overlap.js');

/** Sends a stream, and then its end. One chunk is on its way at a time, so that a slow peer stops the reading. */
async function sendAll(socket, input) {
  for await (const chunk of input) await socket.send(chunk);
  await socket.shutdown('send');
}

async function receiveAll(socket, output) {
  for await (const chunk of socket) {
    if (!output.write(chunk)) await once(output, 'drain');
  }
}

async function main([host, port, file]) {
  if (!port) throw new Error('usage: fetch.js HOST PORT [FILE]');
  const session = await Session.open({ client: 'fetch.js' });
  try {
    const socket = await session.thread.connect(host, Number(port));
    const input = file ? createReadStream(file) : process.stdin;
    await Promise.all([sendAll(socket, input), receiveAll(socket, process.stdout)]);
    await socket.close();
  } finally {
    await session.close();
  }
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
