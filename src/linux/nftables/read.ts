/** From messages to the plain values of ruleset.ts. Pure. */
import type { AttributesOf } from "../netlink/attributes.ts";
import { DecodeError } from "../netlink/wire.ts";
import type {
  chainAttributes,
  elementAttributes,
  flowtableAttributes,
  objectAttributes,
  ruleAttributes,
  setAttributes,
  tableAttributes,
} from "./messages.ts";
import { readObject } from "./objects.ts";
import {
  hookName,
  type BaseChain,
  type ChainHead,
  type ChainType,
  type Family,
  type Flowtable,
  type Hook,
  type NftObject,
  type NftSet,
  type Rule,
  type SetElement,
  type TableHead,
} from "./ruleset.ts";

/** An attribute that the kernel always sends. @throws DecodeError */
function present<T>(value: T | undefined, name: string): T {
  if (value === undefined) throw new DecodeError(name, "is missing");
  return value;
}

export function readTable(family: Family, from: AttributesOf<typeof tableAttributes>): TableHead {
  const comment = from.notes?.comment;
  return {
    family,
    name: present(from.name, "NFTA_TABLE_NAME"),
    handle: from.handle ?? 0,
    flags: from.flags ?? [],
    ...(comment === undefined ? {} : { comment }),
    ...(from.owner === undefined ? {} : { owner: from.owner }),
  };
}

export function readChain(family: Family, from: AttributesOf<typeof chainAttributes>): ChainHead {
  const comment = from.notes?.comment;
  return {
    name: present(from.name, "NFTA_CHAIN_NAME"),
    handle: from.handle ?? 0,
    ...(from.hook === undefined ? {} : { base: readBase(family, from, from.hook) }),
    flags: from.flags ?? [],
    use: from.use ?? 0,
    ...(comment === undefined ? {} : { comment }),
    ...(from.counters === undefined
      ? {}
      : { counter: { packets: from.counters.packets ?? 0, bytes: from.counters.bytes ?? 0 } }),
  };
}

function readBase(
  family: Family,
  from: AttributesOf<typeof chainAttributes>,
  hook: NonNullable<AttributesOf<typeof chainAttributes>["hook"]>,
): BaseChain {
  const number = present(hook.number, "NFTA_HOOK_HOOKNUM");
  const devices = readDevices(hook);
  return {
    type: present(from.type, "NFTA_CHAIN_TYPE") as ChainType,
    // A hook from a newer kernel keeps its number as a name, so that nothing is dropped.
    hook: hookName(family, number) ?? (`hook ${number}` as Hook),
    priority: hook.priority ?? 0,
    policy: from.policy === 0 ? "drop" : "accept",
    ...(devices.length === 0 ? {} : { devices }),
  };
}

interface HookDevices {
  readonly device?: string;
  readonly devices?: { readonly names?: readonly string[]; readonly prefixes?: readonly string[] };
}

function readDevices(hook: HookDevices): string[] {
  const listed = [
    ...(hook.devices?.names ?? []),
    ...(hook.devices?.prefixes ?? []).map((prefix) => `${prefix}*`),
  ];
  return listed.length === 0 && hook.device !== undefined ? [hook.device] : listed;
}

export function readRule(from: AttributesOf<typeof ruleAttributes>): Rule {
  const rule: { -readonly [K in keyof Rule]: Rule[K] } = {
    handle: present(from.handle, "NFTA_RULE_HANDLE"),
    expressions: from.expressions ?? [],
  };
  if (from.notes?.comment !== undefined) rule.comment = from.notes.comment;
  if (from.notes?.userdata !== undefined) rule.userdata = from.notes.userdata;
  if (from.compat !== undefined) {
    rule.compat = { protocol: from.compat.protocol ?? 0, flags: from.compat.flags ?? 0 };
  }
  return rule;
}

/** A set, its elements to follow. */
export function readSet(from: AttributesOf<typeof setAttributes>): Omit<NftSet, "elements"> {
  const fields = from.description?.fields?.map((field) => field.length ?? 0);
  const comment = from.notes?.comment;
  const expressions = from.expressions ?? (from.expression === undefined ? undefined : [from.expression]);
  const optional = {
    fieldLengths: fields,
    dataType: from.dataType,
    dataLength: from.dataLength,
    objectType: from.objectType,
    policy: from.policy === undefined ? undefined : from.policy === 0 ? "performance" : "memory",
    size: from.description?.size,
    timeoutMs: from.timeoutMs,
    gcIntervalMs: from.gcIntervalMs,
    expressions,
    comment,
    userdata: from.notes?.userdata,
  } as const;
  return {
    name: present(from.name, "NFTA_SET_NAME"),
    handle: from.handle ?? 0,
    flags: from.flags ?? [],
    keyType: from.keyType ?? 0,
    keyLength: from.keyLength ?? 0,
    ...definedOnly(optional),
  };
}

type DefinedOnly<T> = { readonly [K in keyof T]?: Exclude<T[K], undefined> };

/** The same without the fields that are undefined: what is absent is left out of our values. */
export function definedOnly<T extends Readonly<Record<string, unknown>>>(fields: T): DefinedOnly<T> {
  const defined: Partial<Record<keyof T, unknown>> = {};
  for (const name in fields) if (fields[name] !== undefined) defined[name] = fields[name];
  return defined as DefinedOnly<T>;
}

type RawElement = AttributesOf<typeof elementAttributes>;

/**
 * Elements as closed intervals, in ascending order. Concatenations bring both ends themselves; in other interval sets
 * the kernel keeps the start of an interval and, as an element of its own, the first key behind it.
 */
export function readElements(set: Omit<NftSet, "elements">, from: readonly RawElement[]): SetElement[] {
  if (!set.flags.includes("interval") || set.fieldLengths !== undefined) {
    return from.map((element) => readElement(element, element.keyEnd));
  }
  const sorted = [...from].sort((a, b) => compareBounds(a, b));
  const elements: SetElement[] = [];
  for (const [index, element] of sorted.entries()) {
    if (element.flags?.includes("interval-end") === true) continue;
    if (element.key === undefined) {
      elements.push(readElement(element, undefined));
      continue;
    }
    const next = sorted[index + 1];
    const last =
      element.keyEnd ?? (next?.key === undefined ? "f".repeat(element.key.length) : keyBefore(next.key));
    elements.push(readElement(element, last));
  }
  return elements;
}

/** By key; the end of one interval before the start of the next; the catch-all element last. */
function compareBounds(a: RawElement, b: RawElement): number {
  if (a.key === undefined || b.key === undefined) return a.key === b.key ? 0 : a.key === undefined ? 1 : -1;
  if (a.key !== b.key) return a.key < b.key ? -1 : 1;
  return (
    Number(b.flags?.includes("interval-end") ?? false) - Number(a.flags?.includes("interval-end") ?? false)
  );
}

function readElement(from: RawElement, last: string | undefined): SetElement {
  const element: { -readonly [K in keyof SetElement]: SetElement[K] } = {};
  if (from.key !== undefined && from.flags?.includes("catchall") !== true) element.key = from.key;
  if (last !== undefined && last !== element.key) element.keyEnd = last;
  if (from.data !== undefined) element.data = from.data;
  if (from.object !== undefined) element.object = from.object;
  if (from.timeoutMs !== undefined) element.timeoutMs = from.timeoutMs;
  if (from.expiresMs !== undefined) element.expiresMs = from.expiresMs;
  if (from.expressions !== undefined) element.expressions = from.expressions;
  else if (from.expression !== undefined) element.expressions = [from.expression];
  const comment = from.notes?.comment;
  if (comment !== undefined) element.comment = comment;
  return element;
}

/** The key one below; keys are unsigned numbers in network order, and none is below the first. */
export function keyBefore(key: string): string {
  return stepped(key, "0", "f", -1);
}

/** The key one above; undefined when there is none. */
export function keyAfter(key: string): string | undefined {
  return /^f*$/.test(key) ? undefined : stepped(key, "f", "0", 1);
}

/** The last digits that cannot go further begin again, and the one before them goes a step: a set has ten thousand keys. */
function stepped(key: string, end: string, start: string, step: 1 | -1): string {
  let at = key.length - 1;
  while (at > 0 && key[at] === end) at--;
  const digit = (Number.parseInt(key[at]!, 16) + step).toString(16);
  return key.slice(0, at) + digit + start.repeat(key.length - 1 - at);
}

export function readNftObject(from: AttributesOf<typeof objectAttributes>): NftObject {
  const type = present(from.type, "NFTA_OBJ_TYPE");
  const comment = from.notes?.comment;
  return {
    name: present(from.name, "NFTA_OBJ_NAME"),
    handle: from.handle ?? 0,
    ...(comment === undefined ? {} : { comment }),
    ...readObject(type, from.data ?? new Uint8Array()),
  };
}

export function readFlowtable(from: AttributesOf<typeof flowtableAttributes>): Flowtable {
  const number = from.hook?.number ?? 0;
  return {
    name: present(from.name, "NFTA_FLOWTABLE_NAME"),
    handle: from.handle ?? 0,
    hook: hookName("netdev", number) ?? (`hook ${number}` as Hook),
    priority: from.hook?.priority ?? 0,
    devices: from.hook === undefined ? [] : readDevices(from.hook),
    flags: from.flags ?? [],
  };
}
