#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
'use strict';

/*
 * An echo server: sends back what comes, on every connection at once, until it is interrupted.
 *
 * usage: echo.js [HOST [PORT]]      127.0.0.1 and a free port where they are not said
 */

const { Session } = require('./overlap.js');

/** Sends back what comes, and takes no more before that has left. */
async function echo(socket) {
  try {
    for await (const chunk of socket) await socket.send(chunk);
  } catch (error) {
    console.error(error.message);
  }
  await socket.close();
}

async function main([host = '127.0.0.1', port = 0]) {
  const session = await Session.open({ client: 'echo.js' });
  session.on('close', (error) => console.error(error.message));
  const listener = await session.thread.listen(host, Number(port));
  console.log(`listening on ${host}:${(await listener.name()).port}`);
  process.once('SIGINT', () => listener.close());
  for await (const socket of listener.connections()) {
    echo(socket).catch((error) => console.error(error.message)); // not awaited: the next may come
  }
  await session.close();
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
