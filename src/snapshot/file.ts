/** Snapshots as files: one JSON document, checked before anybody believes it. */
import { readFileSync } from "node:fs";
import * as v from "valibot";
import { messageOf, WayoutError } from "../error.ts";
import { SNAPSHOT_FORMAT, SNAPSHOT_VERSION, type Snapshot } from "./snapshot.ts";

const STDIN = 0;

/** What must be there for the doctor to begin; what lies deeper is the kernel room's own shape. */
const namespaceState = v.looseObject({
  inode: v.number(),
  links: v.array(v.looseObject({ index: v.number(), name: v.string(), mtu: v.number() })),
  addresses: v.array(v.looseObject({ address: v.string(), interface: v.number() })),
  routes: v.array(v.looseObject({ destination: v.string(), table: v.number() })),
  rules: v.array(v.looseObject({ priority: v.number() })),
  neighbours: v.array(v.looseObject({ address: v.string() })),
  sysctls: v.record(v.string(), v.string()),
  ruleset: v.optional(
    v.looseObject({ tables: v.array(v.looseObject({ chains: v.array(v.looseObject({})) })) }),
  ),
  legacy: v.array(v.looseObject({})),
  ipsets: v.array(v.looseObject({ name: v.string() })),
  counters: v.array(v.looseObject({ values: v.record(v.string(), v.number()) })),
  programs: v.array(v.looseObject({ link: v.string() })),
  routeAnswers: v.array(v.looseObject({ query: v.looseObject({ destination: v.string() }) })),
});

const schema = v.looseObject({
  takenAt: v.string(),
  kernelRelease: v.string(),
  node: namespaceState,
  pods: v.array(
    v.looseObject({ name: v.string(), aliases: v.array(v.string()), state: v.optional(namespaceState) }),
  ),
  files: v.array(v.looseObject({ path: v.string() })),
  missing: v.array(v.looseObject({ where: v.string(), what: v.string(), why: v.string() })),
});

/** @throws WayoutError no-snapshot-file, truncated-snapshot, foreign-snapshot, newer-snapshot, older-snapshot */
export function readSnapshot(path: string): Snapshot {
  let text: string;
  try {
    // Not /dev/stdin: to open that again may be forbidden to whom the pipe was given.
    text = readFileSync(path === "-" ? STDIN : path, "utf8");
  } catch (error) {
    throw refuse("no-snapshot-file", path, messageOf(error), "Take one: wayout snapshot > node.json", error);
  }
  return parseSnapshot(text, path);
}

/** @param name for messages */
export function parseSnapshot(text: string, name: string): Snapshot {
  let value: unknown;
  try {
    value = JSON.parse(text);
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
  const checked = v.safeParse(schema, value);
  if (!checked.success) {
    const [issue] = checked.issues;
    const field = v.getDotPath(issue) ?? "the document";
    throw refuse(
      "foreign-snapshot",
      name,
      `${field}: ${issue.message}`,
      "Take it again: wayout snapshot > node.json",
    );
  }
  return value as Snapshot;
}

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
  return new WayoutError({
    code,
    kind: "usage",
    doing: `reading the snapshot ${name}`,
    said,
    todo,
    ...(cause === undefined ? {} : { cause }),
  });
}
