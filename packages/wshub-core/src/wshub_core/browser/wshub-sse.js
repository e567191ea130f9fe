// An event stream of a hub with the interface of a WebSocket, for networks that block WebSockets.
// The client in wshub.js loads this module when it needs it. The stream only receives: the class
// turns subscribe frames into requests, and answers pings itself.

const OPEN = 1;
const CLOSED = 3;
// The close codes that stand for the HTTP statuses of refusals, as with WebSockets.
const CODES = { 401: 3000, 403: 3003, 429: 1013, 503: 1013 };
// The longest wait for the answers to the channels, in seconds, before pings are answered.
const LONGEST_WAIT = 1;
// The silence after which a stream counts as lost, in intervals of the hub's heartbeat.
const MOST_INTERVALS = 2.5;
const ANSWER = /^\{"type":"(subscribed|error)"/;

export class EventStreamSocket {
  readyState = 0;
  onopen = null;
  onmessage = null;
  onclose = null;
  onerror = null;

  #url;
  #headers = { Accept: "text/event-stream" };
  // Each wanted channel: the entry of its position for the next request, and the id of the
  // subscribe frame that has no answer yet.
  #channels = new Map();
  // The channels of the present request, whose order counts for ids and answers.
  #requested = [];
  #request = null;
  #isChanged = false;
  #pings = [];
  #mayPong = false;
  #interval = 30;
  #heardAt = 0;

  constructor(url, [, marker, token]) {
    this.#url = url;
    if (marker === "wshub.bearer") {
      this.#headers.Authorization = `Bearer ${decodeURIComponent(token)}`;
    }
    queueMicrotask(() => {
      if (this.readyState === CLOSED) return;
      this.readyState = OPEN;
      this.onopen?.();
      this.#change();
    });
  }

  send(text) {
    const { type, channel, id, history } = JSON.parse(text);
    if (type === "ping") {
      this.#pings.push(id);
      // Like a WebSocket, the class calls back in a later turn.
      queueMicrotask(() => this.#answerPings());
    } else if (type === "subscribe") {
      this.#channels.set(channel, { entry: entryOf(history), id });
      this.#change();
    } else if (type === "unsubscribe" && this.#channels.delete(channel)) this.#change();
  }

  close(code = 1000, reason = "") {
    if (this.readyState === CLOSED) return;
    this.readyState = CLOSED;
    this.#request?.abort();
    queueMicrotask(() => this.onclose?.({ code, reason }));
  }

  /** Opens the stream anew with the present channels; once for all changes of one turn. */
  #change() {
    if (this.#isChanged) return;
    this.#isChanged = true;
    queueMicrotask(() => {
      this.#isChanged = false;
      if (this.readyState === OPEN) this.#open();
    });
  }

  async #open() {
    this.#request?.abort();
    const request = this.#request = new AbortController();
    this.#mayPong = false;
    this.#requested = [...this.#channels.keys()];
    try {
      const { status, headers, body } = await fetch(this.#address(), {
        headers: this.#headers, signal: request.signal, credentials: "include", cache: "no-store",
      });
      const isStream = /^text\/event-stream/.test(headers.get("Content-Type"));
      if (isStream && (status === 200 || status === 403)) {
        setTimeout(() => this.#stopWaiting(request), LONGEST_WAIT * 1_000);
        await this.#read(body, request);
        // The hub has refused all channels. They are no longer wanted, so others can be served.
        if (status === 403 && request === this.#request) return this.#change();
        if (request === this.#request) this.close(1006);
      } else if (request === this.#request) {
        body?.cancel();
        const seconds = headers.get("Retry-After");
        this.close(CODES[status] ?? 1006, /^\d+$/.test(seconds) ? `retry-after: ${seconds}` : "");
      }
    } catch {
      if (request === this.#request) this.close(1006);
    }
  }

  #address() {
    const url = new URL(this.#url);
    for (const channel of this.#requested) url.searchParams.append("channel", channel);
    const entries = this.#requested.map((channel) => this.#channels.get(channel).entry);
    if (entries.some(Boolean)) url.searchParams.append("last_event_id", entries.join());
    return url;
  }

  async #read(body, request) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done || request !== this.#request || this.readyState === CLOSED) return;
      this.#heardAt = performance.now();
      this.#mayPong ||= !this.#isAsking;
      const blocks = (text + value).split("\n\n");
      text = blocks.pop();
      for (const block of blocks) {
        this.#take(block);
        // A listener may have closed the client.
        if (this.readyState === CLOSED) return;
      }
      this.#answerPings();
    }
  }

  #take(block) {
    const fields = { event: "message", data: [] };
    for (const line of block.split("\n")) {
      const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line);
      if (name === "data") fields.data.push(value);
      else if (name) fields[name] = value;
      else this.#interval = Number(/^heartbeat (.*)$/.exec(value)?.[1] ?? this.#interval);
    }
    const data = fields.data.join("\n");
    if (fields.event === "close") {
      const { code, reason } = JSON.parse(data);
      return this.close(code, reason);
    }
    if (data) this.#deliver(data);
    if (fields.id !== undefined) this.#note(fields.id.split(","));
  }

  /** Delivers a message. An answer gets the id of the frame that it answers. */
  #deliver(data) {
    const answer = ANSWER.test(data) ? JSON.parse(data) : {};
    if (!Number.isInteger(answer.id)) return this.onmessage?.({ data });
    const channel = this.#requested[answer.id];
    const wanted = this.#channels.get(channel);
    // The client has asked for other channels, and not for this one.
    if (wanted?.id === undefined) return;
    const { id } = wanted;
    if (answer.type === "error") this.#channels.delete(channel);
    else wanted.id = undefined;
    this.onmessage?.({ data: JSON.stringify({ ...answer, id }) });
    this.#mayPong ||= !this.#isAsking;
  }

  /** Whether a subscribe frame has no answer yet. */
  get #isAsking() {
    return [...this.#channels.values()].some(({ id }) => id !== undefined);
  }

  /** Notes the positions with which the next request goes on. */
  #note(entries) {
    this.#requested.forEach((channel, index) => {
      const wanted = this.#channels.get(channel);
      // A channel with an open request begins where the client has asked for.
      if (wanted && wanted.id === undefined) wanted.entry = entries[index];
    });
  }

  #stopWaiting(request) {
    if (request !== this.#request || this.readyState === CLOSED) return;
    this.#mayPong = true;
    this.#answerPings();
  }

  #answerPings() {
    if (this.readyState === CLOSED) return;
    const silence = (performance.now() - this.#heardAt) / 1_000;
    if (!this.#mayPong || this.#heardAt === 0 || silence > MOST_INTERVALS * this.#interval) return;
    for (const id of this.#pings.splice(0)) {
      this.onmessage?.({ data: JSON.stringify({ type: "pong", id }) });
    }
  }
}

/** Returns the entry of an event id for the history that a subscribe frame asks for. */
function entryOf({ last, since, epoch } = {}) {
  if (last !== undefined) return `-${last}`;
  if (since === undefined) return "";
  return epoch === undefined ? `${since}` : `${epoch}:${since}`;
}
