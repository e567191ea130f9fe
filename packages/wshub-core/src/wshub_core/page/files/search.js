// The search in a log: finds the lines with a text, in turns, so that the page stays responsive.

const TURN = 8; // milliseconds
const LINES_PER_LOOK = 500;

export class Search {
  // The ids of the lines found so far, ascending.
  ids = [];
  #log = null;
  #pattern = null;
  // The id of the next line to search.
  #next = 0;

  /** The regular expression for all matches in a line; null without a search. */
  get pattern() { return this.#pattern; }

  /** Whether all lines have been searched. */
  get isDone() { return !this.#pattern || !this.#log || this.#next >= this.#log.endID; }

  /** Starts again, for a text; an empty text ends the search. Capital letters do not matter. */
  start(log, text) {
    this.#log = log;
    this.#pattern = text ? new RegExp(text.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&"), "gi") : null;
    this.ids = [];
    this.#next = log?.firstID ?? 0;
  }

  /** Searches the lines that were not searched yet, for one turn. */
  advance() {
    if (this.isDone) return;
    const until = performance.now() + TURN;
    this.#forgetDropped();
    while (!this.isDone && performance.now() < until) {
      const end = Math.min(this.#log.endID, this.#next + LINES_PER_LOOK);
      for (; this.#next < end; this.#next += 1) {
        if (this.#matches(this.#log.line(this.#next))) this.ids.push(this.#next);
      }
    }
  }

  /** Searches a line again that was overwritten. */
  update(line) {
    if (!this.#pattern || line.id >= this.#next) return;
    const index = this.#indexOf(line.id);
    const isFound = this.ids[index] === line.id;
    if (this.#matches(line) && !isFound) this.ids.splice(index, 0, line.id);
    else if (isFound && !this.#matches(line)) this.ids.splice(index, 1);
  }

  /** Returns the first found line from an id on, or the first of all. */
  from(id) {
    return this.ids[this.#indexOf(id)] ?? this.ids[0];
  }

  /** Returns the last found line before an id, or the last of all. */
  before(id) {
    return this.ids[this.#indexOf(id) - 1] ?? this.ids.at(-1);
  }

  /** Returns the place of a found line among all, from 1; 0 if it is not found. */
  placeOf(id) {
    this.#forgetDropped();
    const index = this.#indexOf(id);
    return this.ids[index] === id ? index + 1 : 0;
  }

  #matches(line) {
    this.#pattern.lastIndex = 0;
    return this.#pattern.test(line.visible);
  }

  /** Returns the number of found lines with a lower id. */
  #indexOf(id) {
    let [low, high] = [0, this.ids.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.ids[middle] < id) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #forgetDropped() {
    if (!this.#log) return;
    const dropped = this.#indexOf(this.#log.firstID);
    if (dropped) this.ids.splice(0, dropped);
    this.#next = Math.max(this.#next, this.#log.firstID);
  }
}
