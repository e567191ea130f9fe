// The tracer: shows the frames of a channel, a user or a connection while they come.

import { bytes } from "./tables.js";

const MAX_ROWS = 500;
const ARROWS = { in: "→ hub", out: "← hub", published: "publish" };

export class Tracer {
  #list;
  #status;
  #stopButton;
  #ask;
  #abort = null;

  constructor(list, status, stopButton, ask) {
    this.#list = list;
    this.#status = status;
    this.#stopButton = stopButton;
    this.#ask = ask;
  }

  async start(kind, name) {
    this.stop();
    const abort = new AbortController();
    this.#abort = abort;
    this.#stopButton.disabled = false;
    this.#status.textContent = "starting";
    try {
      const query = new URLSearchParams({ [kind]: name });
      const response = await this.#ask(`trace?${query}`, { signal: abort.signal });
      this.#status.textContent = `tracing ${kind} ${name}`;
      await this.#read(response.body);
      this.#end(abort, "the hub has ended the trace");
    } catch (error) {
      this.#end(abort, error.name === "AbortError" ? "stopped" : error.message);
    }
  }

  stop() {
    this.#abort?.abort();
  }

  clear() {
    this.#list.replaceChildren();
  }

  #end(abort, why) {
    // A new trace may have begun since.
    if (this.#abort !== abort) return;
    this.#abort = null;
    this.#stopButton.disabled = true;
    this.#status.textContent = why;
  }

  async #read(body) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      const frames = lines.filter(Boolean).map((line) => JSON.parse(line));
      if (frames.length) this.#show(frames);
    }
  }

  #show(frames) {
    const list = this.#list;
    const isAtEnd = list.scrollTop + list.clientHeight >= list.scrollHeight - 8;
    list.append(...frames.slice(-MAX_ROWS).map(row));
    while (list.childElementCount > MAX_ROWS) list.firstElementChild.remove();
    if (isAtEnd) list.scrollTop = list.scrollHeight;
  }
}

function part(tag, className, text) {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

function row(frame) {
  const item = document.createElement("li");
  if (frame.skipped) item.append(part("span", "skipped", `${frame.skipped} left out`));
  const client = frame.connection === null ? "" : ` ${frame.connection} ${frame.user_id}`;
  const note = frame.is_cut ? ` … ${bytes(frame.size)}` : "";
  item.append(
    part("time", "", new Date(frame.at * 1000).toLocaleTimeString()),
    part("span", "from", `${ARROWS[frame.direction]}${client}`.trim()),
    part("span", "text", frame.text + note),
  );
  return item;
}
