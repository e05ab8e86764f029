/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DAEMON_MONITOR_EVENTS_H
#define DAEMON_MONITOR_EVENTS_H

/*
 * The MESSAGE_ID of each kind of journal line that somebody may want to find, count or alarm on. Numbers are for ever:
 * `journalctl MESSAGE_ID=...` is an interface.
 */

#define EVENT_START "c12fc7e5579c4159b2bc1a57fbfc1556"
#define EVENT_STOP "4516a71b14cd42d6a546df57f1aba7c0"
#define EVENT_WORKER_READY "0b4deac28f6844b3b4f5607be70e7abb"
#define EVENT_WORKER_DIED "5f18608825fe4ccb9eff286308285d8b"
#define EVENT_WORKER_FAILED "414a2645f9664f6c8cbc12aaeacc9290"
#define EVENT_CHANNEL_KICKED "dc3cc0da3f02461cae89b288e668dbd3"
#define EVENT_CHANNEL_REFUSED "f04c1d883f70424293c6a59572c327b2"
#define EVENT_REQUEST_REFUSED "777dc9027a334018b7105a7e52189294"
#define EVENT_LISTENER_PAUSED "8b82f470532746ad9f745dbe38027f80"

#endif
