// The log of one channel: the lines that this tab keeps, from the messages of the channel.

import { PLAIN, parse, strip, styleAfter } from "./ansi.js";
import { formatCount, readStatus, readTime, statusClass, statusText } from "./format.js";

// Bounds of one log. Beyond a bound, the oldest lines are dropped, a hundredth at a time, because
// dropping them one by one is slow.
export const MAX_LINES = 100_000;
const MAX_CHARACTERS = 20_000_000;
const KEPT = 0.99;
// The memory of a line without its text, counted in characters.
const LINE_COST = 100;

const PRINTABLE = /^[\x20-\x7e]*$/;
const HAS_CONTROLS = /[\x00-\x08\x0b-\x1f\x7f-\x9f]/;
const TAB = 8;
const NEW_LOG = "The hub has begun a new log.";

// Lines of output that report an error. Names of files and options, "0 errors", "no errors" and
// "errors: 0" report none.
const ERROR_WORD = new RegExp(
  "(?<![\\w./-])(?<!\\b(?:no|0) )"
  + "(?:errors?|failed|failures?|exceptions?|traceback|fatal|panic(?:ked)?)"
  + "(?![\\w/-]|\\.\\w|\\s*[:=]\\s*0\\b)", "i",
);
// Names of exceptions, and the marks of test runners and package managers.
const ERROR_NAME = /\b[A-Z]\w*(?:Error|Exception)\b|\bFAIL\b|\bERR!/;

/** A line of a log. Its fields change only if a later line overwrites it. */
class Line {
  constructor(id, text, style, { time, kind = "", offset = 0, counts = true }) {
    this.id = id;
    this.time = time;
    this.kind = kind;
    // The number of its first message in the history of the channel; 0 if it has none.
    this.offset = offset;
    this.counts = counts;
    // Whether a run of the process begins with this line.
    this.begins = false;
    this.setText(text, style);
  }

  setText(text, style) {
    this.text = text;
    this.style = style;
    this.isPlain = PRINTABLE.test(text) || !HAS_CONTROLS.test(text);
    const { visible } = this;
    // Whether each character takes one column.
    this.isSimple = PRINTABLE.test(visible);
    // Columns of a terminal that the text takes; -1 for a text with line feeds.
    this.columns = this.isSimple ? visible.length : columnsOf(visible);
    // The height on the screen, in pixels; 0 if it has not been measured.
    this.height = 0;
  }

  /** The text without escape sequences. */
  get visible() {
    return this.isPlain ? this.text : strip(this.text);
  }

  get spans() {
    if (this.isPlain && this.style === PLAIN) {
      return [{ text: this.text, classes: "", color: "", background: "" }];
    }
    return parse(this.text, this.style);
  }

  get isError() {
    if (this.kind) return this.kind.endsWith("bad");
    const text = this.visible;
    return ERROR_WORD.test(text) || ERROR_NAME.test(text);
  }

  /** Returns the number of rows of the screen, for a number of columns. */
  rows(columns) {
    if (this.columns >= 0) return Math.max(1, Math.ceil(this.columns / columns));
    const rows = (piece) => Math.max(1, Math.ceil(columnsOf(piece) / columns));
    return this.visible.split("\n").reduce((sum, piece) => sum + rows(piece), 0);
  }
}

function columnsOf(text) {
  if (text.includes("\n")) return -1;
  let columns = 0;
  for (const character of text) {
    const code = character.codePointAt(0);
    if (code === 9) columns += TAB - (columns % TAB);
    // East Asian characters and most emoji take two columns. The screen shows the exact width.
    else columns += code >= 0x1100 && (code < 0x2000 || code >= 0x2e80) ? 2 : 1;
  }
  return columns;
}

export class Log {
  lines = [];
  // The id of the first line; ids of lines are consecutive.
  firstID = 0;
  // Number of lines received, and number of those that are still in `lines`. Notes do not count.
  count = 0;
  kept = 0;
  maxColumns = 0;
  // Lines that were overwritten since the owner of a screen has last emptied this set. It is null
  // for a log that is not on the screen.
  changed = null;
  // The position in the history of the channel: that of the last message with an offset.
  epoch = "";
  offset = 0;
  // Order of last use: the log with the lowest number is closed first.
  usedAt = 0;
  #characters = 0;
  // The style at the end of the output, and the line that the next one may overwrite.
  #style = PLAIN;
  #output = null;

  get endID() { return this.firstID + this.lines.length; }
  get cost() { return this.#characters + LINE_COST * this.lines.length; }

  line(id) { return this.lines[id - this.firstID]; }

  /** Adds a message of the channel, or a broadcast; nothing if the log has the message already. */
  add(message, isOfChannel = true) {
    const { type, data, epoch } = message;
    const offset = Number.isSafeInteger(message.offset) ? Math.max(0, message.offset) : 0;
    if (type === "history_position") return;
    if (type === "history_cleared" && typeof data?.epoch === "string") {
      return this.restart("The log was cleared.");
    }
    if (offset) {
      if (this.epoch && epoch !== this.epoch) this.restart(NEW_LOG);
      if (offset <= this.offset) return;
      this.epoch = String(epoch);
      this.offset = offset;
    }
    const place = { time: readTime(message.timestamp), offset };
    const status = type === "process_status" && isOfChannel ? readStatus(data) : null;
    if (type === "process_output") {
      const text = typeof data === "string" ? data : JSON.stringify(data) ?? "";
      if (message.overwrites === true && this.#output) this.#overwrite(text, place);
      else this.#output = this.#append(text, this.#style, place);
      if (text.includes("\x1b")) this.#style = styleAfter(text, this.#style);
    } else if (status) {
      // The next run begins on a new line, without colors.
      this.#style = PLAIN;
      this.#output = null;
      const kind = `note ${statusClass(status)}`.trim();
      const line = this.#append(statusText(status), PLAIN, { ...place, kind, counts: false });
      line.begins = status.status === "running";
    } else {
      const kind = type === "error" ? "note bad" : "note";
      this.#append(`${type} ${JSON.stringify(data ?? null)}`, PLAIN, { ...place, kind });
    }
  }

  /** Notes that messages are missing before the next one; see the event `gap` of the client. */
  addGap(reason, missing) {
    if (reason === "foreign_epoch" || reason === "future_offset") return this.restart(NEW_LOG);
    const isNew = !this.epoch && !this.lines.length;
    // The beginning of the log says what is missing there; see `missing`.
    if (isNew && reason === "trimmed") return;
    // The page has followed a channel without a history from its first message on.
    if (!isNew && !this.epoch && reason === "no_history") return;
    const why = {
      trimmed: "the hub no longer keeps them", unavailable: "the hub cannot read its history now",
      no_history: "the hub keeps no history of this channel",
    }[reason] ?? "the hub has not sent them";
    const what = missing ? `${formatCount(missing, "line")} missing here` : "lines may be missing here";
    this.note(`${isNew ? "the log begins here" : what}: ${why}`, "warn");
    if (reason === "no_history") this.epoch = "";
  }

  /** Adds a line of the page itself, such as a change of the connection. */
  note(text, kind = "") {
    this.#append(text, PLAIN, { time: Date.now(), kind: `note ${kind}`.trim(), counts: false });
  }

  /** Removes all lines. */
  clear() {
    this.firstID = this.endID;
    this.lines = [];
    this.changed?.clear();
    this.count = this.kept = this.#characters = this.maxColumns = 0;
    this.#output = null;
  }

  /** Removes all lines, because another log follows. */
  restart(reason) {
    this.clear();
    this.epoch = "";
    this.offset = 0;
    this.#style = PLAIN;
    this.note(reason);
  }

  /** Number of messages before the first line that are not kept. */
  get missing() {
    const first = this.lines.find((line) => line.offset > 0);
    return first ? first.offset - 1 : this.count - this.kept;
  }

  /** Returns the line with a number of the history; undefined if it is not kept, or not there yet. */
  find(offset) {
    // A line with several messages has the number of the first one.
    const found = this.lines.findLast((line) => line.offset > 0 && line.offset <= offset);
    return offset <= this.offset ? found : undefined;
  }

  /** Returns the first line that reports an error, of the latest run; undefined if there is none. */
  firstError() {
    const begin = this.lines.findLastIndex((line) => line.begins);
    for (let index = Math.max(0, begin); index < this.lines.length; index += 1) {
      if (this.lines[index].isError) return this.lines[index];
    }
    return undefined;
  }

  /** Returns the text of all lines, without escape sequences. */
  text() {
    return this.lines.map((line) => `${line.visible}\n`).join("");
  }

  #append(text, style, place) {
    const line = new Line(this.endID, text, style, place);
    this.lines.push(line);
    this.#characters += text.length;
    this.count += line.counts;
    this.kept += line.counts;
    this.maxColumns = Math.max(this.maxColumns, line.columns);
    this.#trim();
    return line;
  }

  #overwrite(text, { time }) {
    const line = this.#output;
    this.#characters += text.length - line.text.length;
    line.setText(text, this.#style);
    line.time = time;
    this.maxColumns = Math.max(this.maxColumns, line.columns);
    this.changed?.add(line);
    this.#trim();
  }

  #trim() {
    if (this.lines.length <= MAX_LINES && this.#characters <= MAX_CHARACTERS) return;
    let count = 0;
    for (const line of this.lines) {
      const rest = this.lines.length - count;
      const isEnough = rest <= MAX_LINES * KEPT && this.#characters <= MAX_CHARACTERS * KEPT;
      if (isEnough || rest === 1) break;
      this.#characters -= line.text.length;
      this.kept -= line.counts;
      this.changed?.delete(line);
      if (this.#output === line) this.#output = null;
      count += 1;
    }
    this.lines.splice(0, count);
    this.firstID += count;
  }
}
