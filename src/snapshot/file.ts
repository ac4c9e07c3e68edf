/** Snapshots as files: one JSON document, checked before it is believed. */
import { closeSync, openSync, readSync } from "node:fs";
import * as v from "valibot";
import { messageOf, WayoutError } from "../error.ts";
import { SNAPSHOT_SHAPE } from "./shape/snapshot.ts";
import { SNAPSHOT_FORMAT, SNAPSHOT_VERSION, type Snapshot } from "./snapshot.ts";
import { present } from "../present.ts";

const STDIN = 0;

/** So large is the snapshot of no node: four thousand pods take a tenth of it. */
const MOST_BYTES = 256 * 1024 * 1024;

/** @throws WayoutError no-snapshot-file, truncated-snapshot, foreign-snapshot, newer-snapshot, older-snapshot */
export function readSnapshot(path: string): Snapshot {
  let text: string;
  try {
    // Not /dev/stdin: to open that again may be forbidden to whom the pipe was given.
    text = path === "-" ? readBounded(STDIN) : readFile(path);
  } catch (error) {
    throw refuse("no-snapshot-file", path, messageOf(error), "Take one: wayout snapshot > node.json", error);
  }
  return parseSnapshot(text, path);
}

function readFile(path: string): string {
  const fd = openSync(path, "r");
  try {
    return readBounded(fd);
  } finally {
    closeSync(fd);
  }
}

/** @throws Error for what has no end, as a device */
function readBounded(fd: number): string {
  const parts: Buffer[] = [];
  let length = 0;
  for (;;) {
    const part = Buffer.allocUnsafe(Math.min(1024 * 1024, Math.max(64 * 1024, length)));
    const count = readSync(fd, part);
    if (count === 0) return Buffer.concat(parts, length).toString();
    length += count;
    if (length > MOST_BYTES) throw new Error(`it has more than ${MOST_BYTES / 1024 / 1024} MiB`);
    parts.push(part.subarray(0, count));
  }
}

/** @param name for messages */
export function parseSnapshot(text: string, name: string): Snapshot {
  let value: unknown;
  try {
    // Editors and shells of other systems put a mark of the byte order in front.
    value = JSON.parse(text.replace(/^\ufeff/, ""));
  } catch (error) {
    const cut = beginsLikeOurs(text);
    throw refuse(
      cut ? "truncated-snapshot" : "foreign-snapshot",
      name,
      cut
        ? `it ends in the middle, after ${Buffer.byteLength(text)} bytes`
        : `it is no JSON: ${messageOf(error)}`,
      "Take it again: wayout snapshot > node.json",
      error,
    );
  }
  return checkedSnapshot(value, name);
}

/**
 * A value that shall be a snapshot.
 * @param name for messages
 * @throws WayoutError foreign-snapshot, newer-snapshot, older-snapshot
 */
export function checkedSnapshot(value: unknown, name: string): Snapshot {
  const head = value as Partial<Snapshot> | null;
  if (typeof head !== "object" || head === null || head.format !== SNAPSHOT_FORMAT) {
    throw refuse(
      "foreign-snapshot",
      name,
      "it is no snapshot of wayout",
      "Take one: wayout snapshot > node.json",
    );
  }
  checkVersion(head.version, head.wayout, name);
  const checked = v.safeParse(SNAPSHOT_SHAPE, value, { abortEarly: true });
  if (!checked.success) {
    const [issue] = checked.issues;
    const field = v.getDotPath(issue)?.slice(0, MOST_PLACE) ?? "the document";
    throw refuse(
      "foreign-snapshot",
      name,
      `${field}: ${issue.message.slice(0, MOST_PLACE)}`,
      "Take it again: wayout snapshot > node.json",
    );
  }
  return checked.output;
}

/** Characters of a stranger's names and values that a message repeats. */
const MOST_PLACE = 300;

/** What every snapshot begins with, written without white space or with it. */
const BEGINNING = `{"format":"${SNAPSHOT_FORMAT}"`;

/** Whether the text could be the beginning of a snapshot: an empty file is one that nothing was written to. */
function beginsLikeOurs(text: string): boolean {
  const squeezed = text.slice(0, 200).replaceAll(/\s/g, "");
  return squeezed.startsWith(BEGINNING) || BEGINNING.startsWith(squeezed);
}

function checkVersion(version: unknown, by: unknown, name: string): void {
  if (version === SNAPSHOT_VERSION) return;
  const made = typeof by === "string" ? ` (made by wayout ${by})` : "";
  if (typeof version === "number" && version > SNAPSHOT_VERSION) {
    throw refuse(
      "newer-snapshot",
      name,
      `its version is ${version}${made}; this wayout reads version ${SNAPSHOT_VERSION}`,
      "Read it with the wayout that made it, or a later one.",
    );
  }
  throw refuse(
    "older-snapshot",
    name,
    `its version is ${String(version)}${made}; this wayout reads version ${SNAPSHOT_VERSION}`,
    "Take it again with this version.",
  );
}

function refuse(code: string, name: string, said: string, todo: string, cause?: unknown): WayoutError {
  return new WayoutError(
    present({
      code,
      kind: "usage",
      doing: `reading the snapshot ${name}`,
      said,
      todo,
      cause,
    }),
  );
}
