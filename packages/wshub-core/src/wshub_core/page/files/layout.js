// The places of a log's lines on the screen, for lines of any height. All sizes are in pixels.

export class Layout {
  #log;
  #tops = new Float64Array(1_024);
  // Number of lines whose place is known, and the id of the first line for which they are.
  #known = 0;
  #firstID = 0;
  #rowHeight = 20;
  // Number of columns of the screen; Infinity if long lines do not wrap.
  #columns = Infinity;

  constructor(log) {
    this.#log = log;
    this.#firstID = log.firstID;
  }

  /** Sets the size of a row, after which measured heights are wrong. */
  configure(rowHeight, columns) {
    this.#rowHeight = rowHeight;
    this.#columns = Math.max(1, columns);
    for (const line of this.#log.lines) line.height = 0;
    this.#known = 0;
  }

  /** Computes the places again from a line on, because the line has changed. */
  invalidate(id) {
    this.#known = Math.max(0, Math.min(this.#known, id - this.#firstID));
  }

  /** Takes the measured height of a line; returns whether it differs from the expected one. */
  measure(line, height) {
    if (Math.abs(this.#heightOf(line) - height) < 0.5) return false;
    line.height = height;
    this.invalidate(line.id);
    return true;
  }

  /** The height of all lines. */
  get height() {
    this.#update();
    return this.#tops[this.#known];
  }

  /** Returns the top of a line; for a line that was dropped, the top of the first one. */
  top(id) {
    this.#update();
    return this.#tops[Math.max(0, Math.min(this.#known, id - this.#firstID))];
  }

  /** Returns the id of the line at a height: the last one if the height is below all lines. */
  at(height) {
    this.#update();
    let [low, high] = [0, Math.max(0, this.#known - 1)];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (this.#tops[middle] <= height) low = middle;
      else high = middle - 1;
    }
    return this.#firstID + low;
  }

  #heightOf(line) {
    if (line.height) return line.height;
    if (line.columns >= 0 && line.columns <= this.#columns) return this.#rowHeight;
    return this.#rowHeight * line.rows(this.#columns);
  }

  #update() {
    const { lines, firstID } = this.#log;
    if (firstID !== this.#firstID) {
      this.#firstID = firstID;
      this.#known = 0;
    }
    if (this.#tops.length <= lines.length) {
      const longer = new Float64Array(2 * lines.length);
      longer.set(this.#tops);
      this.#tops = longer;
    }
    for (; this.#known < lines.length; this.#known += 1) {
      this.#tops[this.#known + 1] = this.#tops[this.#known] + this.#heightOf(lines[this.#known]);
    }
  }
}
