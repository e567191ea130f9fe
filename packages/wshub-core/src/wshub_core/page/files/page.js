// The live page: lists the hub's channels, follows its processes, and shows the chosen channel.

import { parse } from "./ansi.js";
import { ReconnectingClient, SubscriptionRefusedError } from "./wshub.js";

// What this tab keeps at most: channels with their output, and of each of them so much.
const MOST_VIEWS = 100;
const MOST_LINES = 5_000;
const MOST_CHARACTERS = 2_000_000;
const MOST_LISTED = 4_000;

// The server tells changes on this channel. The whole list is loaded when the page is connected,
// and now and then in case something was lost on the way.
const PAGE_CHANNEL = "wshub:page";
const LIST_EVERY = 30_000;
// Without that channel the list has to be asked for again and again.
const LIST_OFTEN = 1_000;
// Of several server processes, one may answer with what another has told a moment ago.
const LAG = 2_000;

// What is in no channel gets an entry of its own, under a name that no channel can have.
const BROADCASTS = "(broadcasts)";
const isChannel = (name) => /^[A-Za-z0-9_.:-]{1,256}$/.test(name);

const clock = new Intl.DateTimeFormat([], { timeStyle: "medium", hourCycle: "h23" });
const element = (id) => document.getElementById(id);
const log = element("log");
const lines = element("lines");

// The processes: the only place where their statuses are kept, for the list and for the title.

const entries = new Map();

/** Keeps what has become of a channel; a message or the server has told it just now. */
function note(channel, status) {
  const toldAt = performance.now();
  entries.set(channel, { status: null, exitCode: null, ...entries.get(channel), ...status, toldAt });
  if (entries.size > MOST_LISTED) {
    entries.delete([...entries.keys()].find((name) => !views.has(name)));
  }
  planListPaint();
}

/** Reads the status of a process; null if there is none, whatever was sent for it. */
function readStatus(data) {
  if (typeof data?.status !== "string") return null;
  const exitCode = Number.isSafeInteger(data.exitCode) ? data.exitCode : null;
  return { status: data.status.slice(0, 64), exitCode };
}

function statusText({ status, exitCode }) {
  return status === "exited" && exitCode !== null ? `exited with ${exitCode}` : status;
}

function statusClass({ status, exitCode }) {
  if (status !== "exited" || exitCode === null) return "";
  return exitCode === 0 ? "good" : "bad";
}

// What this tab has received of each channel.

class View {
  lines = [];
  characters = 0;
  // Messages that have come, and those of them that are in `lines`; notes are none.
  count = 0;
  kept = 0;
  // How many of the last lines are not on the screen yet, and which that are there have changed.
  fresh = 0;
  changed = new Set();
  // The style that the output has reached, and the line that the next may take the place of.
  style = {};
  output = null;
  heardAt = 0;
}

const views = new Map();
// What somebody has stopped following; messages may still be on their way.
const left = new Set();
let current = null;
// The first channel opens by itself, but only until somebody has had a say.
let hasChosen = false;
let turn = 0;

function openView(channel) {
  let view = views.get(channel);
  if (!view) {
    view = new View();
    views.set(channel, view);
    // Also if the server has subscribed this connection already: the next one restores it.
    if (channel !== BROADCASTS) connection.subscribe(channel);
    planListPaint();
  }
  view.heardAt = ++turn;
  if (views.size > MOST_VIEWS) forgetSilent();
  return view;
}

function forgetSilent() {
  const others = [...views].filter(([channel]) => channel !== current);
  const [channel] = others.reduce((one, other) => (other[1].heardAt < one[1].heardAt ? other : one));
  views.delete(channel);
  connection.unsubscribe(channel);
  planListPaint();
}

const connection = new ReconnectingClient("ws", {
  initialBackoff: 0.5, maxBackoff: 10, stableAfter: 5,
});

connection.addEventListener("state", ({ detail: state }) => {
  const pill = element("state");
  const isLost = state !== "connected" && pill.dataset.state === "connected";
  pill.dataset.state = state;
  pill.textContent = state === "disconnected" ? "connection lost, trying again" : state;
  if (isLost) for (const view of views.values()) addLine(view, remark("connection lost"));
  if (state === "connected") {
    for (const view of views.values()) addLine(view, remark("connected, following from here"));
    refreshList();
  }
});

connection.addEventListener("end", ({ detail: error }) => {
  element("state").textContent = error?.message ?? "closed";
});

connection.addEventListener("error", ({ detail: error }) => {
  const view = error instanceof SubscriptionRefusedError && views.get(error.channel);
  if (view) addLine(view, remark(error.message, "bad"));
});

connection.addEventListener("message", ({ detail: message }) => {
  if (message.channel === PAGE_CHANNEL) return takeNews(message.data);
  const channel = isChannel(message.channel ?? "") ? message.channel : BROADCASTS;
  if (left.has(channel)) return;
  const view = openView(channel);
  try {
    take(channel, view, message);
  } catch {
    addLine(view, remark("a message that this page cannot show", "bad"));
  }
});

connection.subscribe(PAGE_CHANNEL).catch((error) => {
  if (error instanceof SubscriptionRefusedError) setInterval(refreshList, LIST_OFTEN);
});

function take(channel, view, message) {
  const { type, data } = message;
  const time = readTime(message.timestamp);
  const status = type === "process_status" ? readStatus(data) : null;
  if (type === "process_output") {
    const text = typeof data === "string" ? data : JSON.stringify(data) ?? "";
    const spans = parse(text, view.style);
    if (message.overwrites === true && view.output) changeLine(view, view.output, { time, spans });
    else view.output = addLine(view, { time, spans, counts: true });
  } else if (status && channel !== BROADCASTS) {
    // The next run begins on a new line, in no colour.
    view.style = {};
    view.output = null;
    note(channel, status);
    addLine(view, { ...remark(statusText(status), statusClass(status)), time });
  } else {
    const text = `${type} ${JSON.stringify(data ?? null)}`;
    const mood = type === "error" ? "bad" : "";
    addLine(view, { ...remark(text, mood), time, counts: true });
  }
}

function readTime(timestamp) {
  const time = new Date(typeof timestamp === "string" ? timestamp : NaN);
  return Number.isNaN(time.getTime()) ? new Date() : time;
}

/** A line that no process has printed. */
function remark(text, mood = "") {
  return { time: new Date(), spans: [{ text, classes: [] }], mood: `note ${mood}`, counts: false };
}

function addLine(view, line) {
  line.element = null;
  view.lines.push(line);
  view.fresh += 1;
  view.characters += lengthOf(line);
  view.count += line.counts;
  view.kept += line.counts;
  trim(view);
  planPaint();
  return line;
}

function changeLine(view, line, changes) {
  view.characters -= lengthOf(line);
  Object.assign(line, changes);
  view.characters += lengthOf(line);
  view.changed.add(line);
  trim(view);
  planPaint();
}

function trim(view) {
  while (view.lines.length > MOST_LINES || (view.characters > MOST_CHARACTERS && view.lines[1])) {
    const line = view.lines.shift();
    view.characters -= lengthOf(line);
    view.kept -= line.counts;
    view.changed.delete(line);
    if (view.output === line) view.output = null;
  }
  view.fresh = Math.min(view.fresh, view.lines.length);
}

function lengthOf({ spans }) {
  return spans.reduce((length, { text }) => length + text.length, 0);
}

// Painting: once per frame of the screen, however fast messages come.

let isPaintPlanned = false;
let hasListChanged = true;

function planPaint() {
  if (isPaintPlanned) return;
  isPaintPlanned = true;
  requestAnimationFrame(paint);
}

function planListPaint() {
  hasListChanged = true;
  planPaint();
}

function paint() {
  isPaintPlanned = false;
  if (hasListChanged) paintList();
  hasListChanged = false;
  const view = views.get(current);
  const { status = null, exitCode = null } = entries.get(current) ?? {};
  const badge = element("status");
  badge.hidden = !view || status === null;
  badge.textContent = badge.hidden ? "" : statusText({ status, exitCode });
  badge.className = statusClass({ status, exitCode });
  element("count").textContent = view ? countText(view) : "";
  for (const button of [element("clear"), element("stop")]) button.hidden = !view;
  if (view) paintLines(view);
}

function countText({ count, kept }) {
  if (kept < count) return `last ${kept} of ${count} lines`;
  return count === 1 ? "1 line" : `${count} lines`;
}

function paintLines(view) {
  const fresh = view.fresh ? view.lines.slice(-view.fresh) : [];
  view.fresh = 0;
  for (const line of view.changed) {
    const before = line.element;
    if (before) before.replaceWith(render(line));
  }
  view.changed.clear();
  lines.append(...fresh.map(render));
  while (lines.firstChild && lines.firstChild !== view.lines[0]?.element) lines.firstChild.remove();
}

function render(line) {
  const row = document.createElement("div");
  row.className = `line ${line.mood ?? ""}`.trim();
  const stamp = document.createElement("time");
  stamp.textContent = clock.format(line.time);
  const text = document.createElement("span");
  text.append(...line.spans.map(({ text: piece, classes, color, background }) => {
    const span = document.createElement("span");
    span.textContent = piece;
    span.className = classes.join(" ");
    if (color) span.style.color = color;
    if (background) span.style.background = background;
    return span;
  }));
  row.append(stamp, text);
  line.element = row;
  return row;
}

function show(channel) {
  hasChosen = true;
  left.delete(channel);
  clearScreen();
  current = channel;
  const view = openView(channel);
  // One that was refused is asked for again.
  if (channel !== BROADCASTS) connection.subscribe(channel);
  view.fresh = view.lines.length;
  element("name").textContent = channel;
  hasListChanged = true;
  paint();
  log.scrollTop = 0;
  items.get(channel)?.scrollIntoView({ block: "nearest" });
}

function stop(channel) {
  left.add(channel);
  clearScreen();
  views.delete(channel);
  if (channel !== BROADCASTS) connection.unsubscribe(channel);
  history.replaceState(null, "", location.pathname);
  current = null;
  hasListChanged = true;
  paint();
}

/** Takes the lines from the screen; they stay in their view. */
function clearScreen() {
  for (const line of views.get(current)?.lines ?? []) line.element = null;
  lines.replaceChildren();
}

// The list of channels.

/** Takes what the server tells about channels; others may broadcast what looks like it. */
function takeNews(data) {
  for (const each of Array.isArray(data?.channels) ? data.channels : []) {
    if (typeof each?.channel === "string" && isChannel(each.channel)) {
      note(each.channel, readStatus(each));
    }
  }
  openFirst();
}

async function refreshList() {
  const since = performance.now() - LAG;
  const isRecent = (name) => entries.get(name)?.toldAt > since;
  let listed;
  try {
    const answer = await fetch("channels");
    if (!answer.ok) return;
    listed = new Map((await answer.json()).channels.map((each) => [each.channel, each]));
  } catch {
    return; // The server is away; the state above says so.
  }
  for (const name of entries.keys()) {
    if (!listed.has(name) && !views.has(name) && !isRecent(name)) entries.delete(name);
  }
  for (const [name, { status, exitCode }] of listed) {
    if (!isRecent(name)) entries.set(name, { status, exitCode, toldAt: 0 });
    // The server does this for what begins from now on.
    const runs = name.startsWith("process:") && entries.get(name).status !== "exited";
    if (runs && !views.has(name) && !left.has(name) && views.size < MOST_VIEWS) openView(name);
  }
  openFirst();
  planListPaint();
}

function openFirst() {
  if (current !== null || hasChosen || !entries.size) return;
  const names = [...entries.keys()].sort();
  show(names.find((name) => entries.get(name).status === "running") ?? names[0]);
}

// Elements are kept and updated, so that the keyboard's focus stays where it is.
const items = new Map();

function paintList() {
  const names = new Set([...entries.keys(), ...views.keys()]);
  for (const [channel, item] of items) {
    if (!names.has(channel)) {
      item.remove();
      items.delete(channel);
    }
  }
  const list = element("channels");
  [...names].sort().forEach((channel, index) => {
    if (!items.has(channel)) items.set(channel, makeItem(channel));
    const item = items.get(channel);
    if (list.children[index] !== item) list.insertBefore(item, list.children[index] ?? null);
    const { status = null, exitCode = null } = entries.get(channel) ?? {};
    const link = item.firstElementChild;
    if (channel === current) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
    const badge = link.lastElementChild;
    badge.hidden = status === null;
    badge.className = `badge ${statusClass({ status, exitCode })}`;
    badge.textContent = status === "exited" && exitCode !== null ? `exit ${exitCode}` : status ?? "";
  });
  if (current === null) {
    element("name").textContent = names.size ? "Choose a channel" : "No channels yet";
  }
}

function makeItem(channel) {
  const link = document.createElement("a");
  link.href = `#${encodeURIComponent(channel)}`;
  const name = document.createElement("span");
  name.textContent = channel;
  link.append(name, document.createElement("span"));
  const item = document.createElement("li");
  item.append(link);
  return item;
}

function showHash() {
  let channel = "";
  try {
    channel = decodeURIComponent(location.hash.slice(1));
  } catch {
    return; // A fragment that is no text is no channel.
  }
  if (channel === BROADCASTS || isChannel(channel)) show(channel);
}

element("follow").addEventListener("submit", (event) => {
  event.preventDefault();
  location.hash = encodeURIComponent(element("channel").value);
  element("channel").value = "";
});
element("clear").addEventListener("click", () => {
  const { style } = views.get(current);
  clearScreen();
  views.set(current, Object.assign(new View(), { style, heardAt: ++turn }));
  paint();
});
element("stop").addEventListener("click", () => stop(current));
element("newest").addEventListener("click", () => {
  log.scrollTop = 0;
});
// The log is laid out from its end: it stays there by itself, and counts upwards below zero.
log.addEventListener("scroll", () => {
  element("newest").hidden = log.scrollTop > -40;
});
addEventListener("hashchange", showHash);
document.addEventListener("visibilitychange", () => document.hidden || refreshList());
showHash();
refreshList();
setInterval(refreshList, LIST_EVERY);
