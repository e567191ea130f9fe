// Terminal colors: splits text with ANSI escape sequences into spans with style classes.

// ECMA-48 control sequences, then strings such as titles and links up to their end, then the rest.
const SEQUENCE =
  /\x1b\[([0-?]*)[ -/]*([@-~])|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]/g;
const CONTROLS = /[\x00-\x08\x0b-\x1f\x7f-\x9f]/g;
const CUBE = [0, 95, 135, 175, 215, 255];
const FLAGS = {
  1: ["bold", true], 2: ["dim", true], 3: ["italic", true], 4: ["underline", true],
  7: ["inverse", true], 9: ["strike", true], 21: ["underline", true], 23: ["italic", false],
  24: ["underline", false], 27: ["inverse", false], 29: ["strike", false],
};
const NAMES = ["bold", "dim", "italic", "underline", "strike"];

/** The style before the first sequence. Styles are never changed. */
export const PLAIN = Object.freeze({});

/** Returns text without escape sequences and control characters, except tabs and line feeds. */
export function strip(text) {
  return text.replace(SEQUENCE, "").replace(CONTROLS, "");
}

/** Returns the style at the end of a text. As in a terminal, styles apply to later lines too. */
export function styleAfter(text, style) {
  for (const match of text.matchAll(SEQUENCE)) if (match[2] === "m") style = apply(match[1], style);
  return style;
}

/**
 * Splits text at its escape sequences.
 *
 * @param {string} text
 * @param {object} style  The style after the earlier text.
 * @returns {{text: string, classes: string, color: string, background: string}[]}  Spans with a
 *   different style each; together they have the text that `strip` returns.
 */
export function parse(text, style) {
  const spans = [];
  const push = (piece) => {
    const visible = piece.replace(CONTROLS, "");
    if (!visible) return;
    const span = { text: visible, ...describe(style) };
    const last = spans.at(-1);
    const isSame = last && last.classes === span.classes && last.color === span.color
      && last.background === span.background;
    if (isSame) last.text += visible;
    else spans.push(span);
  };
  let end = 0;
  for (const match of text.matchAll(SEQUENCE)) {
    push(text.slice(end, match.index));
    end = match.index + match[0].length;
    if (match[2] === "m") style = apply(match[1], style);
  }
  push(text.slice(end));
  return spans;
}

function describe(style) {
  const classes = NAMES.filter((name) => style[name]);
  let { fg, bg } = style;
  if (style.inverse) [fg, bg] = [bg ?? "dark", fg ?? "light"];
  const span = { color: "", background: "" };
  for (const [value, prefix, property] of [[fg, "fg", "color"], [bg, "bg", "background"]]) {
    if (value === undefined) continue;
    if (String(value).startsWith("rgb")) span[property] = value;
    else classes.push(prefix + value);
  }
  span.classes = classes.join(" ");
  return span;
}

/** Returns the style after a sequence that selects graphic renditions (SGR). */
function apply(parameters, before) {
  const style = { ...before };
  const parts = parameters.split(";");
  for (let index = 0; index < parts.length; index += 1) {
    // Colons separate the parts of one parameter, as in 38:2::255:0:0 and 4:3.
    const [code, ...rest] = parts[index].split(":").map(Number);
    if (code === 0) for (const name of Object.keys(style)) delete style[name];
    else if (code === 4 && rest.length) style.underline = rest[0] !== 0;
    else if (FLAGS[code]) style[FLAGS[code][0]] = FLAGS[code][1];
    else if (code === 22) style.bold = style.dim = false;
    else if (code >= 30 && code <= 37) style.fg = code - 30;
    else if (code >= 90 && code <= 97) style.fg = code - 82;
    else if (code >= 40 && code <= 47) style.bg = code - 40;
    else if (code >= 100 && code <= 107) style.bg = code - 92;
    else if (code === 39) delete style.fg;
    else if (code === 49) delete style.bg;
    else if (code === 38 || code === 48 || code === 58) {
      // The color of underlines (58) is not shown, but its numbers must be skipped.
      const numbers = rest.length ? rest : parts.slice(index + 1, index + 5).map(Number);
      const color = readColor(numbers, rest.length > 4);
      if (!rest.length) index += numbers[0] === 5 ? 2 : numbers[0] === 2 ? 4 : 0;
      if (code !== 58 && color !== undefined) style[code === 38 ? "fg" : "bg"] = color;
    }
  }
  return Object.keys(style).length ? style : PLAIN;
}

/** Returns a number of the palette, or an RGB color; undefined if the numbers name no color. */
function readColor([mode, ...numbers], hasColorSpace) {
  if (mode === 2) return rgb(hasColorSpace ? numbers.slice(1) : numbers);
  const [number] = numbers;
  if (mode !== 5 || !(number <= 255)) return undefined;
  if (number < 16) return number;
  if (number >= 232) return rgb(Array(3).fill(8 + 10 * (number - 232)));
  const cube = number - 16;
  return rgb([Math.floor(cube / 36), Math.floor(cube / 6) % 6, cube % 6].map((step) => CUBE[step]));
}

function rgb(parts) {
  const [red, green, blue] = [0, 1, 2].map((index) => Math.min(255, parts[index] || 0));
  return `rgb(${red} ${green} ${blue})`;
}
