// The log on the screen. Only the lines in sight, and the selected ones, are elements of the page.

import { formatTime } from "./format.js";
import { Layout } from "./layout.js";

// Pixels above and below the visible part in which lines are elements too, so that the screen does
// not stay empty while the reader scrolls.
const MARGIN = 600;
const MARGIN_AT_ONCE = 100;
// Screens in one frame that count as a long way.
const FAR_SCREENS = 2;
// Number of selected lines that stay elements when they are out of sight.
const MAX_SELECTED = 5_000;
// Heights are measured after painting. Each round can bring other lines into sight.
const MAX_ROUNDS = 3;
const PROBE_COLUMNS = 100;
// Below the end of every log.
const END = 2 ** 30;

export class Viewer {
  // Whether the screen stays at the end of the log.
  isFollowing = true;
  // The id of the line that a link or a jump has led to, and that of the found line.
  marked = null;
  found = null;
  #pattern = null;
  #log = null;
  #layout = null;
  #linkTo;
  #planPaint;
  #scroller;
  #canvas;
  #beginning;
  // The height of `#beginning`, and the padding of the scroller.
  #head = 0;
  #padding = 0;
  #lines;
  #probe;
  // The row of each line that is an element, by the id of the line.
  #rows = new Map();
  #wraps = true;
  // Whether all characters of ASCII have one width, also in bold type, so that the heights of most
  // lines need not be measured.
  #isMonospaced = false;
  #digits = null;
  // The visible top: a line, and the pixels of it that are above. Changes of heights keep it.
  #anchor = { id: 0, delta: 0 };
  #scrollTop = 0;
  // The position for which the rows were made.
  #paintedTop = 0;
  #isPressed = false;
  // Whether the browser is scrolling, and whether that began before the last call of `follow`.
  #isMoving = false;
  #ignoresMovement = false;
  #isAllSelected = false;

  /**
   * @param {HTMLElement} scroller  The element that scrolls, with the parts of `index.html`.
   * @param {(line: object) => string} linkTo  Returns the fragment of a link to a line.
   * @param {() => void} planPaint  Called when `paint` must be called.
   */
  constructor(scroller, linkTo, planPaint) {
    this.#scroller = scroller;
    this.#linkTo = linkTo;
    this.#planPaint = planPaint;
    this.#canvas = scroller.querySelector("#canvas");
    this.#beginning = scroller.querySelector("#beginning");
    this.#lines = scroller.querySelector("#lines");
    this.#probe = scroller.querySelector("#probe .text");
    [..."0W0"].forEach((character, index) => {
      this.#probe.children[index].textContent = character.repeat(PROBE_COLUMNS);
    });
    scroller.addEventListener("scroll", () => {
      this.#isMoving = true;
      this.#readScroll();
      planPaint();
    });
    scroller.addEventListener("scrollend", () => {
      this.#isMoving = false;
      this.#ignoresMovement = false;
    });
    // While the reader selects text, the log does not move.
    this.#lines.addEventListener("pointerdown", () => { this.#isPressed = true; });
    for (const type of ["pointerup", "pointercancel", "blur"]) {
      addEventListener(type, () => { this.#isPressed = false; });
    }
    const noteInput = () => { this.#ignoresMovement = false; };
    for (const type of ["keydown", "pointerdown", "touchstart", "wheel"]) {
      addEventListener(type, noteInput, { capture: true, passive: true });
    }
    new ResizeObserver(() => {
      this.#configure();
      planPaint();
    }).observe(this.#probe);
    new ResizeObserver(planPaint).observe(scroller);
    this.#addCopying();
  }

  /** Shows a log from its end; nothing if it is null. */
  show(log) {
    if (this.#log) this.#log.changed = null;
    this.#log = log;
    this.#removeRows();
    this.marked = this.found = null;
    this.isFollowing = true;
    this.#anchor = { id: 0, delta: 0 };
    this.#layout = log && new Layout(log);
    if (!log) return;
    log.changed = new Set();
    this.#configure();
  }

  get wraps() { return this.#wraps; }
  set wraps(wraps) {
    this.#wraps = wraps;
    this.#scroller.classList.toggle("nowrap", !wraps);
    this.#configure();
  }

  /** The regular expression whose matches are highlighted; null for none. */
  set pattern(pattern) {
    this.#pattern = pattern;
    for (const { row, line } of this.#rows.values()) this.#fill(row, line);
  }

  /** The id of the first visible line. */
  get topID() {
    return Math.max(this.#anchor.id, this.#log?.firstID ?? 0);
  }

  /** Shows the end of the log, and follows it. */
  follow() {
    this.isFollowing = true;
    // A movement that is under way, such as that of the key Home, goes on for some frames. It is not
    // the reader's wish any more.
    this.#ignoresMovement = this.#isMoving;
  }

  /** The text above the first line; empty for none. */
  set beginning(text) {
    if (this.#beginning.textContent === text) return;
    this.#beginning.textContent = text;
    this.#beginning.hidden = text === "";
    this.#head = this.#beginning.offsetHeight;
  }

  /** Scrolls to a line: to the middle of the screen if the line is not in sight. */
  scrollTo(id) {
    this.isFollowing = false;
    const visible = this.#scroller.clientHeight;
    const top = this.#layout.top(id) + this.#head;
    const height = Math.min(visible, this.#layout.top(id + 1) + this.#head - top);
    const above = top + this.#padding - this.#scroller.scrollTop;
    if (above >= 0 && above + height <= visible) return;
    this.#anchor = { id, delta: -(visible - height) / 2 };
  }

  /** Brings the screen up to date; changes made since the last call become visible. */
  paint() {
    if (!this.#log) return;
    this.#readScroll();
    for (const line of this.#log.changed) {
      this.#layout.invalidate(line.id);
      const shown = this.#rows.get(line.id);
      if (shown) this.#fill(shown.row, line);
    }
    this.#log.changed.clear();
    this.#fitNumbers();
    const height = this.#scroller.clientHeight;
    let top = this.#findTop(height);
    // After a long way, the lines in sight come first, and those around them in the next frame.
    const isFar = Math.abs(top - this.#paintedTop) > FAR_SCREENS * height;
    const margin = isFar || this.#isAtEnd ? MARGIN_AT_ONCE : MARGIN;
    for (let round = 1; this.#paintRows(top, height, margin) && round < MAX_ROUNDS; round += 1) {
      top = this.#findTop(height);
    }
    this.#paintedTop = top;
    if (isFar && !this.#isAtEnd) this.#planPaint();
    this.#canvas.style.height = `${this.#head + this.#layout.height}px`;
    // Without wrapping, the longest line sets the width, so that the width stays when lines change.
    const columns = this.#wraps ? 0 : this.#log.maxColumns + 2;
    this.#lines.style.minWidth = columns ? `calc(${columns} * var(--column))` : "";
    if (this.#isAtEnd) this.#scroller.scrollTop = END;
    else if (Math.abs(top - this.#scroller.scrollTop) >= 1) this.#scroller.scrollTop = top;
    this.#noteTop();
    // Screen readers announce lines that arrive, and not those that the reader scrolls to.
    this.#scroller.setAttribute("aria-live", this.isFollowing ? "polite" : "off");
  }

  get #isAtEnd() { return this.isFollowing && !this.#isPressed; }

  /** Reads the sizes of a row and of a column, which fonts and the window can change. */
  #configure() {
    if (!this.#log) return;
    const { width, height } = this.#probe.getBoundingClientRect();
    const widths = [...this.#probe.children].map((span) => span.getBoundingClientRect().width);
    const columnWidth = widths[0] / PROBE_COLUMNS;
    if (!(columnWidth > 0 && height > 0)) return;
    this.#isMonospaced = widths.every((each) => Math.abs(each - widths[0]) < 0.1);
    // A little more, because the widths are rounded.
    const columns = Math.floor((width + 0.1) / columnWidth);
    this.#layout.configure(height, this.#wraps ? columns : Infinity);
    this.#lines.style.setProperty("--column", `${columnWidth}px`);
    this.#head = this.#beginning.offsetHeight;
    this.#padding = this.#canvas.offsetTop;
  }

  /** Makes room for the longest number of a line; without a history, lines have no numbers. */
  #fitNumbers() {
    const digits = this.#log.offset ? Math.max(3, String(this.#log.offset).length) : 0;
    if (digits === this.#digits) return;
    this.#digits = digits;
    this.#canvas.classList.toggle("unnumbered", digits === 0);
    this.#canvas.style.setProperty("--digits", `${digits}ch`);
    this.#configure();
  }

  /** Notes where the reader has scrolled to. */
  #readScroll() {
    const { scrollTop, clientHeight, scrollHeight } = this.#scroller;
    if (!this.#log || Math.abs(scrollTop - this.#scrollTop) < 1) return;
    const isAtEnd = scrollTop + clientHeight >= scrollHeight - 4;
    if (isAtEnd) this.isFollowing = true;
    else if (scrollTop < this.#scrollTop && !this.#ignoresMovement) this.isFollowing = false;
    this.#noteTop();
  }

  #noteTop() {
    this.#scrollTop = this.#scroller.scrollTop;
    const height = this.#scrollTop - this.#head - this.#padding;
    const id = this.#layout.at(height);
    this.#anchor = { id, delta: height - this.#layout.top(id) };
  }

  /** Returns the position to scroll to. */
  #findTop(visible) {
    const last = Math.max(0, this.#head + this.#layout.height + 2 * this.#padding - visible);
    if (this.#isAtEnd) return last;
    const { id, delta } = this.#anchor;
    const top = this.#layout.top(id);
    // The line may have become lower, so that the part of it that is in sight is no longer there.
    const inside = Math.min(delta, Math.max(0, this.#layout.top(id + 1) - top - 1));
    return Math.min(last, Math.max(0, this.#head + this.#padding + top + inside));
  }

  /** Makes elements of the lines in sight; returns whether a height was not as expected. */
  #paintRows(scrollTop, visible, margin) {
    const log = this.#log;
    const head = this.#head;
    const top = scrollTop - head - this.#padding;
    const wanted = new Set(this.#selectedIDs());
    if (log.lines.length) {
      const last = this.#layout.at(top + visible + margin);
      for (let id = this.#layout.at(top - margin); id <= last; id += 1) wanted.add(id);
    }
    for (const [id, { row }] of this.#rows) {
      if (!wanted.has(id)) {
        row.remove();
        this.#rows.delete(id);
      }
    }
    let next = this.#lines.firstElementChild;
    for (const id of [...wanted].sort((one, other) => one - other)) {
      let shown = this.#rows.get(id);
      if (!shown) {
        shown = { row: document.createElement("div"), line: log.line(id) };
        this.#fill(shown.row, shown.line);
        this.#rows.set(id, shown);
        this.#lines.insertBefore(shown.row, next);
      } else next = shown.row.nextElementSibling;
      shown.row.style.top = `${head + this.#layout.top(id)}px`;
      shown.row.classList.toggle("marked", id === this.marked);
      shown.row.classList.toggle("found", id === this.found);
    }
    let hasChanged = false;
    for (const { row, line } of this.#rows.values()) {
      if (this.#isMonospaced && line.isSimple) continue;
      if (this.#layout.measure(line, row.getBoundingClientRect().height)) hasChanged = true;
    }
    return hasChanged;
  }

  #removeRows() {
    this.#lines.replaceChildren();
    this.#rows.clear();
  }

  #fill(row, line) {
    row.className = `line ${line.kind}`.trim();
    const number = document.createElement("a");
    number.className = "number";
    if (line.offset) {
      number.textContent = line.offset;
      number.href = this.#linkTo(line);
      number.tabIndex = -1;
      number.title = "Copy a link to this line";
    }
    const time = document.createElement("time");
    time.textContent = formatTime(line.time);
    const text = document.createElement("span");
    text.className = "text";
    text.append(...this.#render(line));
    row.replaceChildren(number, time, text);
  }

  #render(line) {
    const matches = this.#pattern ? [...line.visible.matchAll(this.#pattern)] : [];
    let start = 0;
    return line.spans.flatMap(({ text, classes, color, background }) => {
      if (!classes && !color && !background && !matches.length) {
        start += text.length;
        return text;
      }
      const span = document.createElement("span");
      if (classes) span.className = classes;
      if (color) span.style.color = color;
      if (background) span.style.background = background;
      span.append(...highlight(text, start, matches));
      start += text.length;
      return span;
    });
  }

  // Selecting and copying.

  /** Returns the ids of the lines from the first selected one to the last. */
  #selectedIDs() {
    const selection = getSelection();
    if (!selection || selection.isCollapsed || this.#isAllSelected) return [];
    const ends = [selection.anchorNode, selection.focusNode].map((node) => this.#idOf(node));
    const [first, last] = ends.filter((id) => id !== null).sort((one, other) => one - other);
    if (last === undefined || last - first >= MAX_SELECTED) return [];
    const begin = Math.max(first, this.#log.firstID);
    return Array.from({ length: Math.max(0, last - begin + 1) }, (_, index) => begin + index);
  }

  #idOf(node) {
    if (!this.#lines.contains(node)) return null;
    for (const [id, { row }] of this.#rows) if (row.contains(node)) return id;
    return null;
  }

  #addCopying() {
    this.#scroller.addEventListener("keydown", (event) => {
      if (event.key.toLowerCase() !== "a" || !(event.ctrlKey || event.metaKey) || event.altKey) return;
      event.preventDefault();
      getSelection().selectAllChildren(this.#lines);
      this.#isAllSelected = true;
    });
    this.#scroller.addEventListener("pointerdown", () => { this.#isAllSelected = false; });
    addEventListener("copy", (event) => {
      if (!this.#isAllSelected || !this.#log || getSelection().isCollapsed) return;
      event.preventDefault();
      event.clipboardData.setData("text/plain", this.#log.text());
    });
  }
}

/**
 * Returns the nodes of a text that begins at an index of its line, with the matches marked. Removes
 * the matches that end in this text.
 */
function highlight(text, start, matches) {
  const nodes = [];
  let end = 0;
  while (matches.length && matches[0].index < start + text.length) {
    const stop = matches[0].index + matches[0][0].length - start;
    const from = Math.max(end, matches[0].index - start);
    nodes.push(text.slice(end, from));
    const mark = document.createElement("mark");
    mark.textContent = text.slice(from, stop);
    nodes.push(mark);
    end = Math.min(stop, text.length);
    if (stop > text.length) break;
    matches.shift();
  }
  nodes.push(text.slice(end));
  return nodes.filter((node) => node !== "");
}
