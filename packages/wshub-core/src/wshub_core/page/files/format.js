// Texts for statuses, times and durations, and the reading of these from messages.

const clock = new Intl.DateTimeFormat([], { timeStyle: "medium", hourCycle: "h23" });
const numbers = new Intl.NumberFormat("en");

let lastSecond = NaN;
let lastTime = "";

/** Returns the time of day. Lines mostly come in the order of their times, so it keeps the last. */
export function formatTime(milliseconds) {
  const second = Math.floor(milliseconds / 1_000);
  if (second !== lastSecond) lastTime = clock.format(milliseconds);
  lastSecond = second;
  return lastTime;
}

export const formatNumber = (number) => numbers.format(number);

/** Returns a number with its noun, such as "1 line" and "1,234 lines". */
export function formatCount(number, noun) {
  return `${formatNumber(number)} ${noun}${number === 1 ? "" : "s"}`;
}

/** Returns a duration in seconds as text, such as "4.2 s", "3 min 05 s" and "1 h 02 min". */
export function formatDuration(seconds, hasTenths = true) {
  if (seconds < 9.95 && hasTenths) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  const two = (number) => String(number).padStart(2, "0");
  if (whole < 60) return `${whole} s`;
  if (whole < 3_600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  return `${Math.floor(whole / 3_600)} h ${two(Math.floor(whole / 60) % 60)} min`;
}

/** Returns a timestamp in milliseconds; the present time if it is no time. */
export function readTime(timestamp) {
  const time = typeof timestamp === "string" ? Date.parse(timestamp) : NaN;
  return Number.isNaN(time) ? Date.now() : time;
}

/** Returns the process status in the data of a message; null for data of another shape. */
export function readStatus(data) {
  if (typeof data?.status !== "string") return null;
  const exitCode = Number.isSafeInteger(data.exitCode) ? data.exitCode : null;
  return { status: data.status.slice(0, 64), exitCode };
}

export function statusText({ status, exitCode }) {
  return status === "exited" && exitCode !== null ? `exited with ${exitCode}` : status;
}

export function statusClass({ status, exitCode }) {
  if (status !== "exited" || exitCode === null) return "";
  return exitCode === 0 ? "good" : "bad";
}
