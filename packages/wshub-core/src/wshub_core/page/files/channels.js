// The list of channels: running processes, finished processes, and other channels.

import { formatDuration, readStatus, statusClass } from "./format.js";

const MAX_LISTED = 4_000;
// The server announces changes of the list. The page also loads the whole list when it connects,
// and at this interval, because an announcement may be lost. Times are in milliseconds.
const LIST_INTERVAL = 30_000;
// With several server processes, the list of one may be older than an announcement of another. An
// entry that is younger than this is not overwritten by the list.
const LIST_LAG = 2_000;
const UNKNOWN = { status: null, exitCode: null, startedAt: null, statusAt: null };

export const isChannel = (name) => /^[A-Za-z0-9_.:-]{1,256}$/.test(name);

/** Returns the duration of a process in seconds, at a Unix time; null if it is not known. */
export function durationOf({ status, startedAt, statusAt }, now) {
  if (status === null || startedAt === null) return null;
  const end = status === "exited" ? statusAt : now;
  return end === null ? null : Math.max(0, end - startedAt);
}

export class ChannelList {
  #entries = new Map();
  // Elements are kept and updated, so that the keyboard focus stays on its element.
  #items = new Map();
  #groups;
  #isKept;
  #onChange;
  // Seconds that the clock of the server is ahead of the clock of this browser, to a second.
  #ahead = 0;

  /**
   * @param {HTMLElement} nav  The element with one list for each group.
   * @param {(channel: string) => boolean} isKept  Whether a channel stays in the list.
   * @param {() => void} onChange  Called after a change.
   */
  constructor(nav, isKept, onChange) {
    this.#groups = ["running", "finished", "others"].map((id) => nav.querySelector(`#${id}`));
    this.#isKept = isKept;
    this.#onChange = onChange;
    setInterval(() => this.load(), LIST_INTERVAL);
    document.addEventListener("visibilitychange", () => document.hidden || this.load());
  }

  get size() { return this.#entries.size; }

  /** The Unix time of the server, in seconds. */
  get now() { return Date.now() / 1_000 + this.#ahead; }

  entry(channel) { return this.#entries.get(channel) ?? UNKNOWN; }

  /** Returns the channel to show first: one with a running process, if there is one. */
  first() {
    const names = [...this.#entries.keys()].sort();
    return names.find((name) => this.entry(name).status === "running") ?? names[0];
  }

  /** Updates a channel from a process status, unless a later one is known. */
  update(channel, status, at) {
    const entry = this.entry(channel);
    if (at < entry.statusAt) return;
    let { startedAt } = entry;
    if (entry.status !== "running" && status.status === "running") startedAt = at;
    else if (entry.status === "exited") startedAt = null;
    this.#set(channel, { ...entry, ...status, startedAt, statusAt: at });
  }

  /** Applies an announcement of the server. Any publisher may send data of another shape here. */
  apply(data) {
    for (const each of Array.isArray(data?.channels) ? data.channels : []) {
      if (typeof each?.channel === "string" && isChannel(each.channel)) {
        this.#set(each.channel, readEntry(each));
      }
    }
  }

  /** Loads the list of the server. Does nothing if that fails: the page shows why elsewhere. */
  async load() {
    const since = performance.now() - LIST_LAG;
    const isRecent = (name) => this.#entries.get(name)?.updatedAt > since;
    let listed;
    try {
      const response = await fetch("channels");
      if (!response.ok) return;
      const date = Date.parse(response.headers.get("date"));
      if (!Number.isNaN(date)) this.#ahead = (date - Date.now()) / 1_000;
      listed = new Map((await response.json()).channels.map((each) => [each.channel, each]));
    } catch {
      return;
    }
    for (const name of this.#entries.keys()) {
      if (!listed.has(name) && !this.#isKept(name) && !isRecent(name)) this.#entries.delete(name);
    }
    for (const [name, each] of listed) {
      if (!isRecent(name)) this.#entries.set(name, { ...readEntry(each), updatedAt: 0 });
    }
    this.#onChange();
  }

  /** Returns the channels of processes that run without the page having them. */
  running() {
    return [...this.#entries].filter(([name, { status, hasHistory }]) => (
      name.startsWith("process:") && status !== "exited" && !hasHistory && !this.#isKept(name)
    )).map(([name]) => name);
  }

  /** Brings the list on the screen up to date. */
  paint(names, current) {
    for (const [channel, item] of this.#items) {
      if (!names.has(channel) && !this.#entries.has(channel)) {
        item.remove();
        this.#items.delete(channel);
      }
    }
    const members = this.#groups.map(() => []);
    for (const channel of new Set([...this.#entries.keys(), ...names])) {
      members[groupOf(this.entry(channel))].push(channel);
    }
    for (const group of members) group.sort();
    // The last process to finish comes first.
    members[1].sort((one, other) => this.entry(other).statusAt - this.entry(one).statusAt);
    this.#groups.forEach((section, index) => {
      section.hidden = members[index].length === 0;
      this.#paintGroup(section.querySelector("ul"), members[index], current);
    });
  }

  reveal(channel) {
    this.#items.get(channel)?.scrollIntoView({ block: "nearest" });
  }

  #set(channel, fields) {
    this.#entries.set(channel, { ...fields, updatedAt: performance.now() });
    if (this.#entries.size > MAX_LISTED) {
      this.#entries.delete([...this.#entries.keys()].find((name) => !this.#isKept(name)));
    }
    this.#onChange();
  }

  #paintGroup(list, channels, current) {
    channels.forEach((channel, index) => {
      if (!this.#items.has(channel)) this.#items.set(channel, makeItem(channel));
      const item = this.#items.get(channel);
      if (list.children[index] !== item) list.insertBefore(item, list.children[index] ?? null);
      const entry = this.entry(channel);
      const { status, exitCode } = entry;
      const link = item.firstElementChild;
      if (channel === current) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
      const [, duration, badge] = link.children;
      const seconds = status === "exited" ? durationOf(entry) : null;
      duration.textContent = seconds === null ? "" : formatDuration(seconds);
      badge.hidden = status === null;
      badge.className = `badge ${statusClass(entry)}`;
      badge.textContent = status === "exited" && exitCode !== null ? `exit ${exitCode}` : status ?? "";
    });
  }
}

function groupOf({ status }) {
  if (status === null) return 2;
  return status === "exited" ? 1 : 0;
}

function readEntry(each) {
  const time = (value) => (Number.isFinite(value) ? value : null);
  return {
    ...(readStatus(each) ?? { status: null, exitCode: null }),
    startedAt: time(each.startedAt),
    statusAt: time(each.statusAt),
    hasHistory: each.history === true,
  };
}

function makeItem(channel) {
  const link = document.createElement("a");
  link.href = `#${encodeURIComponent(channel)}`;
  const [name, duration, badge] = ["span", "small", "span"].map((tag) => document.createElement(tag));
  name.textContent = channel;
  link.append(name, duration, badge);
  const item = document.createElement("li");
  item.append(link);
  return item;
}
