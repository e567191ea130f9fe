// Terminal colors: splits text with ANSI escape sequences into spans with style classes.

// ECMA-48 control sequences, and operating system commands (titles, links) up to their end.
const SEQUENCE = /\x1b\[([0-?]*)[ -/]*([@-~])|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]/g;
const CONTROLS = /[\x00-\x08\x0b-\x1f\x7f]/g;

const CUBE = [0, 95, 135, 175, 215, 255];

/**
 * Splits text at its escape sequences. As in a terminal, colors and weights apply to the following
 * lines too, so the next call continues with the same `style`. Other sequences are removed.
 *
 * @param {string} text
 * @param {object} style  The style after the earlier text; this call changes it. Start with `{}`.
 * @returns {{text: string, classes: string[], color?: string, background?: string}[]}
 */
export function parse(text, style) {
  const spans = [];
  const push = (piece) => {
    const visible = piece.replace(CONTROLS, "");
    if (visible) spans.push({ text: visible, ...describe(style) });
  };
  let end = 0;
  for (const match of text.matchAll(SEQUENCE)) {
    push(text.slice(end, match.index));
    end = match.index + match[0].length;
    if (match[2] === "m") apply(match[1].split(/[;:]/).map(Number), style);
  }
  push(text.slice(end));
  return spans;
}

function describe(style) {
  const classes = ["bold", "dim", "italic", "underline", "inverse"].filter((name) => style[name]);
  const span = { classes };
  for (const [ground, prefix, property] of [["fg", "fg", "color"], ["bg", "bg", "background"]]) {
    const value = style[ground];
    if (typeof value === "number") classes.push(prefix + value);
    else if (value) span[property] = value;
  }
  return span;
}

function apply(codes, style) {
  for (let index = 0; index < codes.length; index += 1) {
    const code = codes[index];
    if (code === 0) for (const key of Object.keys(style)) delete style[key];
    else if (code === 1) style.bold = true;
    else if (code === 2) style.dim = true;
    else if (code === 3) style.italic = true;
    else if (code === 4) style.underline = true;
    else if (code === 7) style.inverse = true;
    else if (code === 22) style.bold = style.dim = false;
    else if (code === 23) style.italic = false;
    else if (code === 24) style.underline = false;
    else if (code === 27) style.inverse = false;
    else if (code >= 30 && code <= 37) style.fg = code - 30;
    else if (code >= 90 && code <= 97) style.fg = code - 82;
    else if (code >= 40 && code <= 47) style.bg = code - 40;
    else if (code >= 100 && code <= 107) style.bg = code - 92;
    else if (code === 39) delete style.fg;
    else if (code === 49) delete style.bg;
    else if (code === 38 || code === 48) {
      const ground = code === 38 ? "fg" : "bg";
      if (codes[index + 1] === 5) {
        style[ground] = indexed(codes[index + 2]);
        index += 2;
      } else if (codes[index + 1] === 2) {
        style[ground] = rgb(codes.slice(index + 2, index + 5));
        index += 4;
      }
    }
  }
}

function indexed(number) {
  if (!(number <= 255)) return undefined;
  if (number < 16) return number;
  if (number >= 232) return rgb(Array(3).fill(8 + 10 * (number - 232)));
  const cube = number - 16;
  return rgb([Math.floor(cube / 36), Math.floor(cube / 6) % 6, cube % 6].map((step) => CUBE[step]));
}

function rgb(parts) {
  return `rgb(${parts.map((part) => Math.min(255, part || 0)).join(" ")})`;
}
