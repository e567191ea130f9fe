// A WebSocket to a hub that comes back by itself, with its subscriptions.

const FIRST_DELAY = 500;
const LONGEST_DELAY = 10_000;
// Only a connection that has held for this long counts as success, so that a server that accepts
// and drops is not hammered.
const STABLE_AFTER = 5_000;

/**
 * Events: `state` (detail: "connecting", "connected" or "waiting"), `message` (detail: one message
 * of the hub, decoded).
 */
export class HubConnection extends EventTarget {
  #url;
  #socket = null;
  #channels = new Set();
  #failures = 0;
  #retryTimer;

  constructor(url) {
    super();
    this.#url = url;
    addEventListener("online", () => this.#retryNow());
    this.#connect();
  }

  subscribe(channel) {
    if (this.#channels.has(channel)) return;
    this.#channels.add(channel);
    this.#send("subscribe", channel);
  }

  unsubscribe(channel) {
    if (this.#channels.delete(channel)) this.#send("unsubscribe", channel);
  }

  #connect() {
    this.#setState("connecting");
    const socket = (this.#socket = new WebSocket(this.#url));
    let stableTimer;
    socket.onopen = () => {
      stableTimer = setTimeout(() => (this.#failures = 0), STABLE_AFTER);
      for (const channel of this.#channels) this.#send("subscribe", channel);
      this.#setState("connected");
    };
    socket.onmessage = (event) => {
      // One object per message from this hub; other hubs may join several with newlines.
      for (const line of event.data.split("\n")) {
        if (line.trim()) this.#dispatch("message", JSON.parse(line));
      }
    };
    socket.onclose = () => {
      clearTimeout(stableTimer);
      this.#setState("waiting");
      // Full jitter: clients that lost the same server do not come back in step.
      const ceiling = Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** this.#failures);
      this.#failures += 1;
      this.#retryTimer = setTimeout(() => this.#connect(), Math.random() * ceiling);
    };
  }

  #retryNow() {
    if (this.#socket.readyState === WebSocket.CLOSED) {
      clearTimeout(this.#retryTimer);
      this.#connect();
    }
  }

  #send(type, channel) {
    if (this.#socket.readyState === WebSocket.OPEN) {
      this.#socket.send(JSON.stringify({ type, channel, data: channel }));
    }
  }

  #setState(state) {
    this.#dispatch("state", state);
  }

  #dispatch(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
