// A client of a hub that reconnects by itself, restores its subscriptions, and gets the messages
// that it has missed. The public interface is described in wshub.d.ts.

const OPTIONS = {
  token: null, initialBackoff: 1, maxBackoff: 30, backoffMultiplier: 2, maxAttempts: Infinity,
  stableAfter: 10, openTimeout: 10, heartbeatInterval: 25, pongTimeout: 10, maxSendBytes: 65_536,
  queue: null, plain: false, WebSocket: null, sse: null, fallbackAfter: 2,
};
const QUEUE = { messages: 1_000, bytes: 1_048_576, age: 60 };
const MAY_BE_ZERO = new Set(["maxAttempts", "stableAfter", "fallbackAfter"]);

const SERVICE_RESTART = 1012;
const FINAL_CODES = new Set([1002, 1007, 1008, 3003]);
// The HTTP statuses that these close codes stand for, if they come before the first pong: a page
// cannot read the status of a failed handshake.
const REFUSALS = { 3000: 401, 3003: 403 };
// The types of messages that answer a frame of the client, if they carry the same id.
const ANSWERS = {
  subscribe: ["subscribed", "error"], event: ["published", "error"],
  presence: ["presence", "error"], ping: ["pong"],
};
// The messages that tell the newest position of a channel in their data.
const NOTICES = new Set(["history_cleared", "history_position"]);
// The beginnings of refusals from hubs that answer no ids.
const OLD_REFUSAL = /^(Subscribe: |subscription limit exceeded)/;
const LONGEST_RETRY_AFTER = 3_600;
const LONGEST_TIMER = 2 ** 31 - 1;
const CLOSE_TIMEOUT = 2;
// The bytes that a hub adds to a published message.
const STAMP_BYTES = 64;
// The bytes that the client adds to a subscribe frame: an id, and a position.
const SUBSCRIBE_BYTES = 128;
const MOST_EARLY_BYTES = 16_777_216;
// After a standstill of the page, a timer can be due while the answer waits to be read. Verdicts
// wait for this many more seconds, in which the answer is read.
const SECOND_LOOK = 0.25;
// The shortest wait for an answer with an id after a pong without one, in seconds. Everybody who
// may broadcast can send such a pong.
const SHORTEST_DOUBT = 0.25;
const OPEN = 1;

export class ClientError extends Error {
  name = "ClientError";

  constructor(message, fields = {}) {
    super(message.trim());
    Object.assign(this, fields);
  }
}
export class DialError extends ClientError { name = "DialError"; }
export class LostError extends ClientError { name = "LostError"; }
export class RefusedError extends ClientError { name = "RefusedError"; }
export class ClosedError extends ClientError { name = "ClosedError"; }
export class RetriesExhaustedError extends ClientError { name = "RetriesExhaustedError"; }
export class NotConnectedError extends ClientError { name = "NotConnectedError"; }
export class ClientClosedError extends ClientError { name = "ClientClosedError"; }
export class SubscriptionRefusedError extends ClientError { name = "SubscriptionRefusedError"; }
export class PublishRefusedError extends ClientError { name = "PublishRefusedError"; }
export class PresenceRefusedError extends ClientError { name = "PresenceRefusedError"; }
export class DroppedError extends ClientError { name = "DroppedError"; }
export class MessageTooLargeError extends ClientError { name = "MessageTooLargeError"; }

export class ReconnectingClient extends EventTarget {
  #url;
  #options;
  #state = "disconnected";
  #isEnded = false;
  #ended = deferred();
  #closed = null;
  #listening = new AbortController();
  #events = [];
  #isEmitting = false;

  #socket = null;
  #transport = "websocket";
  // WebSocket dials that have failed in a row, and whether one has ever succeeded. The network
  // blocks WebSockets only if none has: other failures end by themselves.
  #blockedDials = 0;
  #isWebSocketProven = false;
  // Counts dials and ends of connections. A callback that belongs to an earlier connection finds
  // another number, and does nothing.
  #turn = 0;
  // The timer of the next dial, the timeout of the present dial, or the heartbeat. At most one of
  // them is needed at a time.
  #timer;
  #dials = 0;
  #failures = 0;
  #hasBeenConnected = false;
  #connectedAt = null;
  #heardAt = 0;
  #isProbing = false;

  #channels = new Map();
  // Requests and pings in the order in which they were sent, until the hub has answered.
  #asked = [];
  // The beginning of all ids: random, so that nobody else can send an answer.
  #key = "";
  #lastID = 0;
  // Whether the hub answers ids; hubs of go-ws do not. It is null until that is known. After a pong
  // without an id, the timer `#deciding` waits for an answer with an id.
  #answersIDs = null;
  #deciding;
  #dialSeconds = 0;
  #unreadableMessages = 0;
  #duplicateMessages = 0;
  // What waits for the first answer of the hub: functions, in the order in which they are called.
  #early = [];
  #earlyBytes = 0;
  #queue = [];
  #queuedBytes = 0;

  constructor(url, options = {}) {
    super();
    this.#url = readURL(url);
    this.#options = readOptions(options);
    const { signal } = this.#listening;
    const wake = () => globalThis.document?.hidden || this.#wake();
    globalThis.addEventListener?.("online", () => this.#wake(), { signal });
    globalThis.document?.addEventListener("visibilitychange", wake, { signal });
    // The caller adds its listeners first.
    queueMicrotask(() => this.#dial());
  }

  get state() { return this.#state; }
  get transport() { return this.#transport; }
  get ended() { return this.#ended.promise; }
  get unreadableMessages() { return this.#unreadableMessages; }
  get duplicateMessages() { return this.#duplicateMessages; }

  subscribe(channel, options) {
    if (typeof channel !== "string") throw new TypeError("a channel must be a string");
    const start = readStart(options);
    let subscription = this.#isEnded ? null : this.#channels.get(channel);
    if (!subscription) {
      subscription = { channel, start, ...deferred() };
      // The hub closes a connection on which a frame is too large, and each restoring would send
      // the frame again.
      this.#checkSize(JSON.stringify(subscribeFrame(subscription)), SUBSCRIBE_BYTES);
      if (this.#isEnded) subscription.reject(this.#whyNot());
      else this.#channels.set(channel, subscription);
      if (this.#isOpen) {
        this.#askFor(subscription);
        this.#ping();
      }
    }
    return subscription.promise;
  }

  unsubscribe(channel) {
    const subscription = this.#channels.get(channel);
    if (!subscription) return;
    this.#channels.delete(channel);
    const fields = { channel, code: "unsubscribed" };
    subscription.reject(new SubscriptionRefusedError(`${channel}: unsubscribed`, fields));
    this.#leave(channel);
  }

  position(channel) {
    const { since: offset, epoch } = this.#channels.get(channel)?.start ?? {};
    return epoch === undefined ? null : { epoch, offset };
  }

  publish(channel, data) {
    const frame = { type: "event", channel, data };
    return this.#request(frame, PublishRefusedError, "this hub takes no messages of clients");
  }

  presence(channel, { count = false } = {}) {
    const frame = { type: "presence", channel, data: count ? { count } : undefined };
    return this.#request(frame, PresenceRefusedError, "this hub does not tell who is present");
  }

  send(message) {
    const text = typeof message === "string" ? message : JSON.stringify(message);
    if (text === undefined) throw new TypeError("a message must be a text or a JSON object");
    this.#checkSize(text);
    if (this.#canSend) this.#sendNow(text);
    else if (this.#options.queue && !this.#isEnded) this.#enqueue(text);
    else throw this.#whyNot();
  }

  close() {
    const socket = this.#isOpen ? this.#socket : null;
    this.#end(null);
    this.#closed ??= new Promise((resolve) => {
      if (!socket) return resolve();
      socket.onclose = resolve;
      this.#arm(CLOSE_TIMEOUT, resolve);
    }).finally(() => clearTimeout(this.#timer));
    return this.#closed;
  }

  // Opening a connection.

  async #dial() {
    if (this.#isEnded) return;
    const turn = ++this.#turn;
    this.#dials += 1;
    this.#state = "connecting";
    this.#armVerdict(this.#options.openTimeout, () => {
      this.#lose(new DialError("the hub has not answered within openTimeout"));
    });
    this.#emit(["state", "connecting"]);
    try {
      const protocols = await this.#protocols();
      if (turn !== this.#turn) return;
      const [Socket, url] = await this.#chooseSocket();
      if (turn !== this.#turn) return;
      this.#socket = new Socket(url, protocols);
    } catch (cause) {
      if (turn === this.#turn) this.#lose(new DialError("the dial failed", { cause }));
      return;
    }
    const socket = this.#socket;
    const dialedAt = performance.now();
    this.#key = randomKey();
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.#dialSeconds = secondsSince(dialedAt);
      this.#greet();
    };
    socket.onmessage = (event) => this.#receive(event.data);
    socket.onclose = (event) => this.#judge(event.code, event.reason);
    // When a dial fails, some versions of Node dispatch `error` and never `close`.
    socket.onerror = () => setTimeout(() => turn === this.#turn && this.#judge(1006, ""), 50);
  }

  async #chooseSocket() {
    const { sse, fallbackAfter, WebSocket } = this.#options;
    const isBlocked = !this.#isWebSocketProven && this.#blockedDials >= fallbackAfter;
    this.#transport = sse !== null && isBlocked ? "sse" : "websocket";
    if (this.#transport === "websocket") return [WebSocket, this.#url];
    const { EventStreamSocket } = await import("./wshub-sse.js");
    return [EventStreamSocket, sse];
  }

  /** Counts a failed dial. After a failed event stream, the next dial tries a WebSocket again. */
  #countBlocked({ code = 1006 }) {
    const { fallbackAfter } = this.#options;
    if (this.#state !== "connecting") return;
    if (this.#transport === "sse") this.#blockedDials = Math.max(fallbackAfter - 1, 0);
    else if (this.#socket && code === 1006) this.#blockedDials += 1;
  }

  async #protocols() {
    const { token: source, plain } = this.#options;
    if (plain) return [];
    const token = typeof source === "function" ? await source() : source;
    if (token === null || token === undefined) return ["wshub.v1"];
    if (typeof token !== "string" || !token) throw new TypeError("the token is no text");
    // encodeURIComponent leaves parentheses, which are not allowed in a subprotocol.
    const encoded = encodeURIComponent(token).replaceAll("(", "%28").replaceAll(")", "%29");
    return ["wshub.v1", "wshub.bearer", encoded];
  }

  #greet() {
    for (const subscription of this.#channels.values()) {
      subscription.askedFrom = null;
      this.#askFor(subscription);
    }
    this.#ping(() => this.#connected());
  }

  #connected() {
    const [name, detail] = this.#hasBeenConnected
      ? ["reconnect", { attempts: this.#dials }] : ["connect", null];
    const early = this.#early;
    const turn = this.#turn;
    this.#early = [];
    this.#earlyBytes = 0;
    this.#dials = 0;
    this.#hasBeenConnected = true;
    this.#connectedAt = performance.now();
    this.#state = "connected";
    if (this.#transport === "websocket") this.#isWebSocketProven = true;
    // The queued messages go first. A listener of the events below may send further messages.
    const dropped = this.#flush();
    this.#beat();
    this.#emit(["state", "connected"], [name, detail], ...dropped);
    for (const act of early) if (turn === this.#turn) act();
  }

  #wake() {
    if (this.#state === "connected") this.#probe();
    else if (this.#state === "disconnected") this.#dial();
  }

  // The ends of connections.

  #judge(code, reason) {
    const match = /^retry-after: *(\d{1,9})$/.exec(reason);
    const retryAfter = match && Math.min(Number(match[1]), LONGEST_RETRY_AFTER);
    const wasConnected = this.#state === "connected";
    const status = wasConnected ? undefined : REFUSALS[code];
    if (status && !match) this.#end(new RefusedError(`refused: ${status}`, { status, reason }));
    else if (!status && (FINAL_CODES.has(code) || (code >= 4500 && code <= 4999))) {
      this.#end(new ClosedError(`closed for good: ${code} ${reason}`, { code, reason }));
    } else {
      const [Kind, what] = wasConnected ? [LostError, "lost"] : [DialError, "not made"];
      const error = new Kind(`connection ${what}: ${code} ${reason}`, { code, reason, retryAfter });
      const isPlanned = wasConnected && code === SERVICE_RESTART && match !== null;
      this.#lose(error, isPlanned);
    }
  }

  #lose(error, isPlanned = false) {
    this.#countBlocked(error);
    const { initialBackoff, maxBackoff, backoffMultiplier, maxAttempts } = this.#options;
    const hasHeld = secondsSince(this.#connectedAt ?? Infinity) >= this.#options.stableAfter;
    // A planned restart is no failure.
    this.#failures = (hasHeld ? 0 : this.#failures) + (isPlanned ? 0 : 1);
    if (this.#failures > maxAttempts) {
      const text = `max retries (${maxAttempts}) exceeded`;
      return this.#end(new RetriesExhaustedError(text, { cause: error }), error);
    }
    const events = this.#drop(error);
    // Full jitter: clients that have lost the same hub reconnect at different times.
    const exponent = Math.max(0, this.#failures - 1);
    const bound = Math.min(maxBackoff, initialBackoff * backoffMultiplier ** exponent);
    this.#arm((error.retryAfter ?? 0) + Math.random() * bound, () => this.#dial());
    this.#emit(["error", error], ...events);
  }

  #end(error, lastError = error) {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#listening.abort();
    const events = this.#drop(error ?? this.#whyNot(), 1000);
    // The channels stay, because the application may read its positions.
    for (const { reject } of this.#channels.values()) reject(error ?? this.#whyNot());
    const unsent = this.#queue.length;
    this.#queue = [];
    if (unsent) events.push(dropped(unsent, "there was no connection to send them on"));
    this.#emit(...(error ? [["error", lastError]] : []), ...events, ["end", error]);
    if (error) this.#ended.reject(error);
    else this.#ended.resolve();
  }

  /** Ends the present connection or dial; returns the events that follow from it. */
  #drop(error, ...closeArguments) {
    const state = this.#state;
    const socket = this.#socket;
    for (const request of this.#asked) request.abandon?.(error);
    clearTimeout(this.#timer);
    this.#turn += 1;
    this.#state = "disconnected";
    this.#socket = this.#connectedAt = null;
    this.#isProbing = false;
    this.#early = [];
    this.#earlyBytes = 0;
    this.#asked = [];
    this.#answersIDs = null;
    clearTimeout(this.#deciding);
    this.#deciding = undefined;
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      // The class of the package `ws` is an EventEmitter: an error without a listener would end the
      // process.
      socket.onerror = () => {};
      socket.close(...closeArguments);
    }
    return [
      ...(state === "connected" ? [["disconnect", null]] : []),
      ...(state === "disconnected" ? [] : [["state", "disconnected"]]),
    ];
  }

  // The heartbeat.

  #beat() {
    const rest = this.#options.heartbeatInterval - secondsSince(this.#heardAt);
    if (rest > 0) this.#arm(rest, () => this.#beat());
    else this.#probe();
  }

  #probe() {
    this.#ping();
    if (this.#isProbing) return;
    this.#isProbing = true;
    this.#armVerdict(this.#options.pongTimeout, () => {
      this.#lose(new LostError("the hub is silent", { code: 1006, reason: "" }));
    });
  }

  // Requests and answers.

  get #isOpen() { return this.#socket?.readyState === OPEN; }
  get #isConnected() { return this.#state === "connected" && this.#isOpen; }
  get #canSend() { return this.#isConnected && this.#transport === "websocket"; }

  #whyNot() {
    if (this.#isConnected) return new NotConnectedError("an event stream only receives");
    if (!this.#isEnded) return new NotConnectedError("not connected");
    return new ClientClosedError("the client has been closed: create a new one");
  }

  #ask(frame, request) {
    const id = `${this.#key}-${++this.#lastID}`;
    this.#asked.push({ id, type: frame.type, ...request });
    this.#write({ ...frame, id });
  }

  #write(frame) {
    this.#socket.send(JSON.stringify(frame));
  }

  /** Sends a request that needs a connection; returns a promise of the answer's data. */
  #request(frame, Refused, whyNotServed) {
    const { channel } = frame;
    const { promise, resolve: confirm, reject: abandon } = deferred();
    const refuse = (code, text) => abandon(new Refused(`${channel}: ${text}`, { channel, code }));
    const assume = () => refuse("not_served", whyNotServed);
    try {
      this.#checkSize(JSON.stringify(frame), STAMP_BYTES);
      if (!this.#canSend) throw this.#whyNot();
      this.#ask(frame, { confirm, refuse, assume, abandon });
      this.#ping();
    } catch (error) {
      abandon(error);
    }
    return promise;
  }

  #leave(channel) {
    if (this.#isOpen) this.#write({ type: "unsubscribe", channel, data: channel });
  }

  #askFor(subscription, isAgain = false) {
    const { channel, start, resolve, reject } = subscription;
    const refuse = (code, text) => {
      // The application may have unsubscribed and subscribed again meanwhile. The answer belongs to
      // the earlier subscription then.
      if (!this.#isWanted(subscription)) return;
      this.#channels.delete(channel);
      // The hub has refused the request, and has not ended the subscription.
      if (isAgain) this.#leave(channel);
      const error = new SubscriptionRefusedError(`${channel}: ${text}`, { channel, code });
      reject(error);
      this.#emit(["error", error]);
    };
    const asked = { start, turn: this.#turn };
    const confirm = (data) => this.#whenConnected(() => {
      const isLast = subscription.asked === asked && this.#isWanted(subscription);
      if (isLast) this.#resume(subscription, start, data ?? {});
      resolve();
    });
    subscription.asked = asked;
    this.#ask(subscribeFrame(subscription), { subscription, confirm, refuse });
  }

  #ping(onPong = () => {}) {
    this.#ask({ type: "ping" }, { onPong, refusals: [] });
  }

  #receive(data) {
    const turn = this.#turn;
    this.#heardAt = performance.now();
    if (this.#isProbing) {
      this.#isProbing = false;
      this.#beat();
    }
    const text = typeof data === "string" ? data : new TextDecoder().decode(data);
    for (const part of text.split("\n")) {
      if (!part.trim()) continue;
      const message = readMessage(part);
      if (!message) this.#unreadableMessages += 1;
      else if (!this.#takeAnswer(message)) this.#deliver(message, part.length);
      if (turn !== this.#turn) return;
    }
  }

  #deliver(message, size) {
    this.#whenConnected(() => this.#isNext(message) && this.#emit(["message", message]), size);
  }

  /** Calls a function now, or after the first answer of the hub. The waiting bytes are bounded. */
  #whenConnected(act, size = 0) {
    if (this.#state === "connected") return act();
    this.#early.push(act);
    this.#earlyBytes += size;
    if (this.#earlyBytes > MOST_EARLY_BYTES) {
      this.#lose(new DialError("the server sends without end and answers nothing"));
    }
  }

  // The history of a channel. A subscription has these fields:
  //   start          what its next subscribe frame asks for: { since, epoch }, the position of the
  //                  last message, or at first what the application has asked for, or null
  //   asked          its last request, until the answer comes
  //   askedFrom      the position from which the last skipped messages were requested
  //   isUnavailable  whether the hub could not read the history for the last answer
  // Positions come only from hubs that have answered with a position, or with `unavailable`. Other
  // hubs do not remove the fields `epoch` and `offset` from what an application publishes.

  /** Processes the confirmation of a subscription that was to begin at `askedFor`. */
  #resume(subscription, askedFor, { epoch, after, recovered, reason, missing }) {
    const { channel, start } = subscription;
    subscription.asked = null;
    subscription.isUnavailable = reason === "unavailable";
    if (typeof epoch === "string" && isCount(after)) {
      if (epoch !== start?.epoch || after !== start.since) {
        subscription.start = { since: after, epoch };
      }
    } else if (!subscription.isUnavailable) subscription.start = null;
    if (askedFor && recovered !== true) {
      this.#reportGap(channel, asText(reason) || "no_history", missing);
    }
  }

  /** Returns whether to deliver a message. Requests the messages before it that have not come. */
  #isNext({ type, channel, epoch, offset, data }) {
    const subscription = this.#channels.get(channel);
    if (!subscription) return true;
    const { start, asked } = subscription;
    // The messages behind the answer include the messages before it.
    const isAsked = asked?.start && asked.turn === this.#turn;
    if (NOTICES.has(type) && epoch === undefined) {
      const { epoch: newest, offset: top = 0 } = data ?? {};
      if (!start || typeof newest !== "string" || !isCount(top)) return true;
      const isOther = newest !== start.epoch;
      if (type === "history_cleared") {
        if (isOther) subscription.start = { since: top, epoch: newest };
      } else if ((isOther || top !== start.since) && !isAsked) this.#askAgain(subscription);
      return true;
    }
    if (typeof epoch !== "string" || !isCount(offset)) return true;
    if (isAsked) return false;
    if (!start && !subscription.isUnavailable) return true;
    const next = start ? start.since + 1 : offset;
    const missing = start && epoch !== start.epoch ? null : offset - next;
    if (missing !== null && missing < 0) {
      this.#duplicateMessages += 1;
      return false;
    }
    if (missing !== 0) {
      if (subscription.askedFrom !== start) {
        subscription.askedFrom = start;
        this.#askAgain(subscription);
        return false;
      }
      // The answer has not moved the position, and the hub skips the same messages again.
      this.#reportGap(channel, "skipped", missing);
    }
    subscription.start = { since: offset, epoch };
    return true;
  }

  #askAgain(subscription) {
    if (this.#isOpen) this.#askFor(subscription, true);
  }

  #reportGap(channel, reason, missing) {
    this.#emit(["gap", { channel, reason, missing: isCount(missing) ? missing : null }]);
  }

  // There are two kinds of hubs. Hubs of wshub answer a frame with the id of the frame. Every
  // message without such an id is for the application, because everybody who may broadcast can send
  // it. Hubs of go-ws answer no ids. They refuse subscriptions in order, without naming them, and
  // their next pong shows that they have served all earlier frames.

  /** Processes a message if it answers the client itself; returns whether it does. */
  #takeAnswer(message) {
    const { type, id = null } = message;
    if (typeof id === "string" && id.startsWith(this.#key)) {
      this.#takeAnswerWithID(message);
      return true;
    }
    if (this.#answersIDs || id !== null) return false;
    if (type === "pong") return this.#takePong();
    return isRefusal(message) && this.#holdRefusal(message);
  }

  #takeAnswerWithID({ type, id, code, data }) {
    if (!this.#answersIDs) this.#noteIDs();
    const isAnswered = (each) => each.id === id && ANSWERS[each.type].includes(type);
    const index = this.#asked.findIndex(isAnswered);
    if (index < 0) return;
    if (type === "pong") return this.#settleBefore(index);
    const [request] = this.#asked.splice(index, 1);
    if (type === "error") request.refuse(asText(code), asText(data));
    else request.confirm(data);
  }

  /** Notes that the hub answers ids, and delivers the messages that were held back as refusals. */
  #noteIDs() {
    this.#answersIDs = true;
    clearTimeout(this.#deciding);
    const asked = this.#asked;
    this.#asked = asked.filter((each) => each.id !== undefined);
    for (const { refusals = [] } of asked) {
      for (const message of refusals) this.#deliver(message, message.data.length);
    }
  }

  /** Processes a pong with an id: the hub has served all frames before its ping. */
  #settleBefore(index) {
    const served = this.#asked.splice(0, index + 1);
    // A subscription without an answer stays: the hub answers when its bridge is up.
    this.#asked.unshift(...served.filter((each) => this.#isWanted(each.subscription)));
    for (const each of served) each.assume?.();
    for (const each of served) each.onPong?.();
  }

  /** Processes a pong without an id; returns whether it answers a ping of the client itself. */
  #takePong() {
    const index = this.#asked.findIndex((each) => each.type === "ping" && !each.isPonged);
    if (index < 0) return false;
    const ping = this.#asked[index];
    ping.isPonged = true;
    // If there is no request before the ping, even a forged pong confirms nothing.
    if (this.#answersIDs === false || index === 0) this.#settlePonged();
    else {
      // A dial takes two round trips or more, so half of it is at least one. The second timer lets
      // the page first read an answer that has come during a standstill.
      const longest = this.#options.openTimeout / 4;
      const doubt = Math.min(Math.max(SHORTEST_DOUBT, this.#dialSeconds / 2), longest) * 1_000;
      this.#deciding ??= setTimeout(() => {
        this.#deciding = setTimeout(() => this.#noteNoIDs());
      }, doubt);
    }
    return ping.id !== undefined;
  }

  #noteNoIDs() {
    this.#answersIDs = false;
    this.#settlePonged();
  }

  /** Determines the outcomes of all requests before pings that a hub without ids has answered. */
  #settlePonged() {
    for (;;) {
      const index = this.#asked.findIndex((each) => each.type === "ping");
      if (!this.#asked[index]?.isPonged) return;
      const served = this.#asked.splice(0, index + 1);
      const { refusals, onPong } = served.pop();
      const subscriptions = served.filter((each) => each.subscription);
      const isClear = refusals.length === 0 || refusals.length === subscriptions.length;
      subscriptions.forEach((request, number) => {
        if (!isClear) this.#askAlone(request.subscription);
        else if (refusals.length) request.refuse("", refusals[number].data);
        else request.confirm();
      });
      for (const each of served) each.assume?.();
      onPong?.();
    }
  }

  /** Keeps a refusal until the next pong; returns whether there is a subscription for it. */
  #holdRefusal(message) {
    const index = this.#asked.findIndex((each) => each.type === "ping" && !each.isPonged);
    const before = this.#asked.slice(0, Math.max(0, index));
    const asked = before.slice(before.findLastIndex((each) => each.type === "ping") + 1);
    const refusals = this.#asked[index]?.refusals;
    const isOne = refusals?.length < asked.filter((each) => each.subscription).length;
    if (isOne) refusals.push(message);
    return isOne;
  }

  /** Requests one channel with a ping of its own, so that a refusal can mean only this channel. */
  #askAlone(subscription) {
    if (!this.#isWanted(subscription)) return;
    this.#askFor(subscription);
    this.#ping();
  }

  #isWanted(subscription) {
    return subscription !== undefined && this.#channels.get(subscription.channel) === subscription;
  }

  // Messages of the application.

  #checkSize(text, reserved = 0) {
    const size = new TextEncoder().encode(text).length + reserved;
    const limit = this.#options.maxSendBytes;
    if (size > limit) {
      throw new MessageTooLargeError(`a message of ${size} bytes, where the limit is ${limit}`);
    }
  }

  #sendNow(text) {
    // Without ids, the pongs for the application are recognized by their order.
    if (!this.#answersIDs && readMessage(text)?.type === "ping") {
      this.#asked.push({ type: "ping", refusals: [] });
    }
    this.#socket.send(text);
  }

  #enqueue(text) {
    const size = new TextEncoder().encode(text).length;
    this.#queue.push({ text, size, since: performance.now() });
    this.#queuedBytes += size;
    this.#emit(...this.#trim());
  }

  /** Drops the queued messages beyond the bounds; returns the event that reports them. */
  #trim() {
    const { messages, bytes, age } = this.#options.queue;
    const queue = this.#queue;
    let count = 0;
    while (queue.length > messages || this.#queuedBytes > bytes
           || (queue.length && secondsSince(queue[0].since) > age)) {
      this.#queuedBytes -= queue.shift().size;
      count += 1;
    }
    return count ? [dropped(count, "the bounds of the queue were reached")] : [];
  }

  #flush() {
    const events = this.#options.queue ? this.#trim() : [];
    if (!this.#canSend) return events;
    for (const { text } of this.#queue.splice(0)) this.#sendNow(text);
    this.#queuedBytes = 0;
    return events;
  }

  #arm(seconds, callback) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(callback, Math.min(seconds * 1_000, LONGEST_TIMER));
  }

  /** Calls a function after a time, and after the messages that wait to be read were read. */
  #armVerdict(seconds, verdict) {
    this.#arm(seconds, () => this.#arm(SECOND_LOOK, verdict));
  }

  /** Dispatches events in order. Listeners may cause further events, which are dispatched later. */
  #emit(...events) {
    this.#events.push(...events);
    if (this.#isEmitting) return;
    this.#isEmitting = true;
    for (let event; (event = this.#events.shift()); ) {
      this.dispatchEvent(new CustomEvent(event[0], { detail: event[1] }));
    }
    this.#isEmitting = false;
  }
}

function dropped(count, why) {
  return ["error", new DroppedError(`${count} messages dropped: ${why}`, { count })];
}

function readURL(text) {
  try {
    const url = new URL(text, globalThis.location?.href);
    url.protocol = url.protocol.replace(/^http/, "ws");
    url.hash = "";
    if (/^wss?:$/.test(url.protocol)) return url.href;
  } catch { /* the error is thrown below */ }
  // The text before an @ may be a password, and the text after a question mark a token.
  const shown = String(text).replace(/^([^/]*\/\/)?.*@/, "$1").split("?")[0];
  throw new TypeError(`not the address of a hub: ${shown}`);
}

function readOptions(options) {
  const settings = merge(OPTIONS, options, "");
  const { token, queue, plain } = settings;
  if (token !== null && typeof token !== "function" && (typeof token !== "string" || !token)) {
    throw new TypeError("token must be a text or a function");
  }
  if (plain && token !== null) throw new TypeError("a plain client cannot present a token");
  if (queue !== null) settings.queue = merge(QUEUE, queue, "queue.");
  // The rules for addresses are the same; only the scheme differs.
  if (settings.sse !== null) settings.sse = readURL(settings.sse).replace(/^ws/, "http");
  settings.WebSocket ??= globalThis.WebSocket;
  if (typeof settings.WebSocket !== "function") {
    throw new TypeError("there is no WebSocket here: give a class with the option WebSocket");
  }
  return settings;
}

function merge(defaults, given, prefix) {
  const settings = { ...defaults };
  for (const [name, value] of Object.entries(given)) {
    if (!Object.hasOwn(defaults, name)) throw new TypeError(`there is no option ${prefix}${name}`);
    settings[name] = value ?? defaults[name];
    if (typeof defaults[name] !== "number") continue;
    const isEnough = settings[name] > 0 || (settings[name] === 0 && MAY_BE_ZERO.has(name));
    if (typeof settings[name] !== "number" || !isEnough) {
      throw new TypeError(`${prefix}${name} must be a number above 0, not ${value}`);
    }
  }
  return settings;
}

/** Returns what the first subscribe frame of a channel asks for, or null. */
function readStart(options = {}) {
  const { last, since } = merge({ last: null, since: null }, options, "");
  if (last !== null && since !== null) throw new TypeError("last excludes since");
  if (last === null && since === null) return null;
  const { epoch, offset } = typeof since === "object" ? since ?? {} : { offset: since };
  if (!isCount(last ?? offset) || !["string", "undefined"].includes(typeof epoch)) {
    throw new TypeError("last must be a number of messages, and since an offset or a position");
  }
  return last === null ? { since: offset, epoch } : { last };
}

function subscribeFrame({ channel, start }) {
  return { type: "subscribe", channel, data: channel, ...(start && { history: start }) };
}

function isCount(value) {
  return Number.isSafeInteger(value) && value >= 0;
}

function readMessage(text) {
  try {
    const message = JSON.parse(text);
    const names = [message.type, message.channel ?? "", message.processId ?? ""];
    return names.every((name) => typeof name === "string") ? message : null;
  } catch {
    return null;
  }
}

/** Returns whether a message looks like a refusal of a hub that answers no ids. */
function isRefusal({ type, channel = null, data }) {
  return type === "error" && channel === null && typeof data === "string" && OLD_REFUSAL.test(data);
}

function asText(value) {
  return typeof value === "string" ? value : "";
}

function randomKey() {
  const parts = crypto.getRandomValues(new Uint32Array(4));
  return Array.from(parts, (part) => part.toString(36)).join("");
}

function secondsSince(time) {
  return (performance.now() - time) / 1_000;
}

/** Returns a promise with its functions. A rejection that is not handled is no error. */
function deferred() {
  let resolve, reject;
  const promise = new Promise((...ends) => ([resolve, reject] = ends));
  promise.catch(() => {});
  return { promise, resolve, reject };
}
