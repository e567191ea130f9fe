// The fragment of the page's address: a channel, and possibly a line of its log.

/** Returns a fragment such as `#process:build-42` and `#process:build-42&line=7&epoch=abcdefgh`. */
export function writeFragment({ channel, line, epoch }) {
  const name = `#${encodeURIComponent(channel).replaceAll("%3A", ":")}`;
  return line ? `${name}&line=${line}&epoch=${encodeURIComponent(epoch)}` : name;
}

/** Returns the parts of a fragment; null if it has an invalid percent-encoding. */
export function readFragment(fragment) {
  try {
    const [channel, ...rest] = fragment.slice(1).split("&").map(decodeURIComponent);
    const value = (name) => rest.find((part) => part.startsWith(`${name}=`))?.slice(name.length + 1);
    const line = Number(value("line") ?? NaN);
    return { channel, line: Number.isSafeInteger(line) && line > 0 ? line : 0, epoch: value("epoch") };
  } catch {
    return null;
  }
}
