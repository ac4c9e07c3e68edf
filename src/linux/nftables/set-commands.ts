/** Changes to sets and maps, and to their elements. Keys and data are given as a person writes them. */
import { NLM_F_CREATE, NLM_F_EXCL } from "../netlink/message.ts";
import { EncodeError } from "../netlink/wire.ts";
import { changeRequest, type RulesetChange } from "./transaction.ts";
import {
  datatypesLength,
  datatypesNumber,
  intervalHex,
  parseDatatypes,
  swapHex,
  type Datatype,
} from "./datatypes.ts";
import type { OBJECT_TYPES } from "./enumerations.ts";
import type { StatefulExpression } from "./expressions.ts";
import { NFT_MSG } from "./messages.ts";
import { definedOnly, keyAfter, readSet } from "./read.ts";
import type { NftSet, SetElement, SetRef } from "./ruleset.ts";
import {
  commentItem,
  numberItem,
  SET_COMMENT,
  SET_DATA_BYTEORDER,
  SET_DATA_INTERVAL,
  SET_KEY_BYTEORDER,
  SET_MERGE_ELEMENTS,
  writeUserdata,
  type UserdataItem,
} from "./userdata.ts";
import type { Data } from "./values.ts";

/** A set or map as it is declared. Types are nft's: `ipv4_addr`, `ipv4_addr . inet_service`, `verdict`. */
export interface SetSpec extends SetRef {
  readonly type: string;
  /** Makes it a map: what its elements lead to. */
  readonly dataType?: string;
  /** The data are ranges of `dataType`, e.g. of addresses for snat. */
  readonly dataInterval?: boolean;
  /** Makes it a map to objects. */
  readonly objectType?: Exclude<keyof typeof OBJECT_TYPES, `#${number}`>;
  readonly flags?: readonly ("interval" | "timeout" | "constant" | "anonymous" | "eval")[];
  /** nft then merges neighbouring intervals when it adds some. */
  readonly autoMerge?: boolean;
  readonly size?: number;
  readonly timeoutMs?: number;
  readonly policy?: "performance" | "memory";
  readonly comment?: string;
  /** Every element gets a counter. */
  readonly expressions?: readonly StatefulExpression[];
  /** Number by which rules of the same transaction find an anonymous set. */
  readonly id?: number;
}

function setText(set: SetSpec | SetRef): string {
  const isMap = "type" in set && (set.dataType !== undefined || set.objectType !== undefined);
  return `${isMap ? "map" : "set"} ${set.family} ${set.table} ${set.set}`;
}

/** `add set inet wayout pods { type ipv4_addr; flags interval; }` */
export function addSet(set: SetSpec): RulesetChange {
  return changeRequest(NFT_MSG.newSet, set.family, `adding ${setText(set)}`, setValue(set), NLM_F_CREATE);
}

/** `create set …`: EEXIST when it is there. */
export function createSet(set: SetSpec): RulesetChange {
  return changeRequest(
    NFT_MSG.newSet,
    set.family,
    `creating ${setText(set)}`,
    setValue(set),
    NLM_F_CREATE | NLM_F_EXCL,
  );
}

function setValue(set: SetSpec) {
  const key = parseDatatypes(set.type);
  const data = set.dataType === undefined ? undefined : parseDatatypes(set.dataType);
  const flags = new Set<
    "interval" | "timeout" | "constant" | "anonymous" | "eval" | "map" | "object" | "concat" | "expr"
  >(set.flags ?? []);
  if (data !== undefined) flags.add("map");
  if (set.objectType !== undefined) flags.add("object");
  if (set.timeoutMs !== undefined) flags.add("timeout");
  // Without it the kernel refuses NFTA_SET_EXPRESSIONS (nf_tables_api.c, nft_set_expr_alloc).
  if (set.expressions !== undefined && set.expressions.length > 1) flags.add("expr");
  const fields =
    key.length > 1 && flags.has("interval") ? key.map((part) => ({ length: part.size })) : undefined;
  if (fields !== undefined) flags.add("concat");
  const description = definedOnly({ size: set.size, fields });
  return {
    table: set.table,
    name: set.set,
    flags: [...flags],
    keyType: datatypesNumber(key),
    keyLength: datatypesLength(key),
    ...(data === undefined ? {} : dataValue(set, data)),
    ...(set.objectType === undefined ? {} : { objectType: set.objectType }),
    ...(set.policy === undefined ? {} : { policy: set.policy === "memory" ? 1 : 0 }),
    ...(Object.keys(description).length === 0 ? {} : { description }),
    id: set.id ?? 0,
    ...(set.timeoutMs === undefined ? {} : { timeoutMs: set.timeoutMs }),
    ...statefulOf(set.expressions),
    notes: { userdata: writeUserdata(setNotes(set, key, data)) },
  };
}

/**
 * The expressions of a set or an element. One alone goes into the older attribute (Linux 5.7), as it comes back: a list,
 * and the flag for it, are of 5.11.
 */
function statefulOf(expressions: readonly StatefulExpression[] = []): {
  readonly expression?: StatefulExpression;
  readonly expressions?: readonly StatefulExpression[];
} {
  const [only, ...more] = expressions;
  if (only === undefined) return {};
  return more.length === 0 ? { expression: only } : { expressions };
}

function dataValue(set: SetSpec, data: readonly Datatype[]) {
  const length = datatypesLength(data);
  return {
    dataType: datatypesNumber(data),
    // A range is stored as its two ends; a verdict has no length of its own here.
    dataLength: set.dataType === "verdict" ? 0 : set.dataInterval === true ? length * 2 : length,
  };
}

/** The set as the kernel would show it once it is added: for printing what is not there yet. */
export function setOf(set: SetSpec): Omit<NftSet, "elements"> {
  return readSet(setValue(set));
}

/** What nft notes about its own sets, so that it lists ours as it would its own. */
function setNotes(
  set: SetSpec,
  key: readonly Datatype[],
  data: readonly Datatype[] | undefined,
): UserdataItem[] {
  const notes = [numberItem(SET_KEY_BYTEORDER, byteorderNumber(key))];
  if (data !== undefined) notes.push(numberItem(SET_DATA_BYTEORDER, byteorderNumber(data)));
  if (set.autoMerge === true) notes.push(numberItem(SET_MERGE_ELEMENTS, 1));
  if (data !== undefined) notes.push(numberItem(SET_DATA_INTERVAL, set.dataInterval === true ? 1 : 0));
  if (set.comment !== undefined) notes.push(commentItem(set.comment, SET_COMMENT));
  return notes;
}

/** enum byteorder of nft: 0 none (a concatenation, a verdict), 1 host, 2 big-endian. */
function byteorderNumber(types: readonly Datatype[]): number {
  if (types.length > 1 || types[0]!.name === "verdict") return 0;
  return types[0]!.order === "host" ? 1 : 2;
}

/** `delete set …`: EBUSY while a rule uses it. */
export function deleteSet(set: SetRef): RulesetChange {
  return changeRequest(NFT_MSG.delSet, set.family, `deleting ${setText(set)}`, {
    table: set.table,
    name: set.set,
  });
}

/** `flush set …`: deletes its elements. */
export function flushSet(set: SetRef): RulesetChange {
  const value = { table: set.table, set: set.set };
  return changeRequest(NFT_MSG.delElements, set.family, `flushing ${setText(set)}`, value);
}

/**
 * An element as a person writes it. `key`: one text for each part of the type; an interval set takes prefixes and
 * ranges (`10.0.0.0/24`, `1024-65535`, `eth*`).
 */
export interface ElementSpec {
  readonly key: string | number | readonly (string | number)[];
  /** Of a map: the parts of the data, or a verdict. A range of a `dataInterval` map is one text. */
  readonly data?: string | number | readonly (string | number)[] | Data;
  readonly object?: string;
  readonly comment?: string;
  readonly timeoutMs?: number;
  readonly expressions?: readonly StatefulExpression[];
}

/** Sets of ten thousand are compared with the kernel's and then written, more than once. By the element, for the last type. */
const known = new WeakMap<ElementSpec, { readonly set: SetSpec; readonly element: SetElement }>();

/** The element in the kernel's terms. @throws EncodeError */
export function elementOf(set: SetSpec, element: ElementSpec): SetElement {
  const before = known.get(element);
  if (before !== undefined && areAlike(before.set, set)) return before.element;
  const made = newElementOf(set, element);
  known.set(element, { set, element: made });
  return made;
}

/** Whether the same text means the same bytes in both. */
function areAlike(a: SetSpec, b: SetSpec): boolean {
  return (
    a === b ||
    (a.type === b.type &&
      a.dataType === b.dataType &&
      a.dataInterval === b.dataInterval &&
      a.flags === b.flags)
  );
}

function newElementOf(set: SetSpec, element: ElementSpec): SetElement {
  const bounds = boundsOf(set, parseDatatypes(set.type), element.key);
  return {
    key: bounds.first,
    ...(bounds.last === bounds.first ? {} : { keyEnd: bounds.last }),
    ...(element.data === undefined ? {} : { data: elementData(set, element.data) }),
    ...definedOnly({
      object: element.object,
      comment: element.comment,
      timeoutMs: element.timeoutMs,
      expressions: element.expressions,
    }),
  };
}

function boundsOf(
  set: SetSpec,
  types: readonly Datatype[],
  key: ElementSpec["key"],
): { readonly first: string; readonly last: string } {
  const parts = typeof key === "object" ? key : [key];
  if (parts.length !== types.length) {
    throw new EncodeError("", `${parts.length} parts where "${set.type}" has ${types.length}`);
  }
  const isInterval = set.flags?.includes("interval") === true;
  let first = "";
  let last = "";
  for (const [index, part] of parts.entries()) {
    const one = types[index]!;
    const bounds = intervalHex(one, part);
    if (bounds.first !== bounds.last && !isInterval) {
      throw new EncodeError("", `"${part}" is an interval; ${setText(set)} has none`);
    }
    // Intervals are compared byte by byte, so nft stores host-order numbers of interval sets in network order.
    const swap = isInterval && one.order === "host" && one.name !== "ifname";
    const width = types.length > 1 ? Math.ceil(one.size / 4) * 8 : one.size * 2;
    first += (swap ? swapHex(bounds.first) : bounds.first).padEnd(width, "0");
    last += (swap ? swapHex(bounds.last) : bounds.last).padEnd(width, "0");
  }
  return { first, last };
}

function elementData(set: SetSpec, data: NonNullable<ElementSpec["data"]>): Data {
  if (typeof data === "object" && ("verdict" in data || "value" in data)) return data;
  if (set.dataType === undefined) throw new EncodeError("", `${setText(set)} is no map`);
  const types = parseDatatypes(set.dataType);
  const asMap: SetSpec = { ...set, type: set.dataType, flags: set.dataInterval === true ? ["interval"] : [] };
  const bounds = boundsOf(asMap, types, data);
  return { value: set.dataInterval === true ? bounds.first + bounds.last : bounds.first };
}

/** Bytes of elements that go into one message: NFTA_SET_ELEM_LIST_ELEMENTS can hold 64 KiB. */
const ELEMENT_BYTES = 48 * 1024;

/** `add element … { … }` */
export function addElements(set: SetSpec, elements: readonly ElementSpec[]): RulesetChange[] {
  const doing = `adding elements to ${setText(set)}`;
  return elementChanges(NFT_MSG.newElements, set, knownElements(set, elements), doing, NLM_F_CREATE);
}

/** `create element …`: EEXIST when one is there. */
export function createElements(set: SetSpec, elements: readonly ElementSpec[]): RulesetChange[] {
  const flags = NLM_F_CREATE | NLM_F_EXCL;
  const doing = `creating elements in ${setText(set)}`;
  return elementChanges(NFT_MSG.newElements, set, knownElements(set, elements), doing, flags);
}

/** `delete element …`: ENOENT when one is not there. */
export function deleteElements(set: SetSpec, elements: readonly ElementSpec[]): RulesetChange[] {
  return deleteFoundElements(set, knownElements(set, elements));
}

/** The same for elements as they were read. */
export function deleteFoundElements(set: SetSpec, elements: readonly SetElement[]): RulesetChange[] {
  const keys = elements.map(({ key, keyEnd }) => definedOnly({ key, keyEnd }));
  return elementChanges(NFT_MSG.delElements, set, keys, `deleting elements from ${setText(set)}`, 0);
}

function knownElements(set: SetSpec, elements: readonly ElementSpec[]): SetElement[] {
  return elements.map((element) => elementOf(set, element));
}

type RawElement = NonNullable<
  Parameters<(typeof NFT_MSG.newElements)["attributes"]["write"]>[1]["elements"]
>[number];

function elementChanges(
  message: typeof NFT_MSG.newElements,
  set: SetSpec,
  elements: readonly SetElement[],
  doing: string,
  flags: number,
): RulesetChange[] {
  const changes: RulesetChange[] = [];
  let chunk: RawElement[] = [];
  let bytes = 0;
  const flush = (): void => {
    if (chunk.length === 0) return;
    const value = {
      table: set.table,
      set: set.set,
      elements: chunk,
      ...(set.id === undefined ? {} : { setId: set.id }),
    };
    changes.push(changeRequest(message, set.family, doing, value, flags));
    chunk = [];
    bytes = 0;
  };
  for (const element of elements) {
    const raw = rawElements(set, element);
    bytes += raw.reduce((sum, one) => sum + elementBytes(one), 0);
    if (bytes > ELEMENT_BYTES) flush();
    chunk.push(...raw);
  }
  flush();
  return changes;
}

/** Generous: what an element takes at most. */
function elementBytes(element: RawElement): number {
  const data = element.data !== undefined && "value" in element.data ? element.data.value.length / 2 : 300;
  return (
    120 +
    (element.key?.length ?? 0) +
    (element.notes?.comment?.length ?? 0) +
    (element.data === undefined ? 0 : data)
  );
}

/** What is behind an interval of addresses; one list for all of them. */
const INTERVAL_END = ["interval-end"] as const;

function rawElements(set: SetSpec, element: SetElement): RawElement[] {
  const { key, keyEnd, comment, expressions, data, object, timeoutMs } = element;
  const raw: { -readonly [K in keyof RawElement]: RawElement[K] } = { ...statefulOf(expressions) };
  if (data !== undefined) raw.data = data;
  if (object !== undefined) raw.object = object;
  if (timeoutMs !== undefined) raw.timeoutMs = timeoutMs;
  if (comment !== undefined) raw.notes = { comment };
  if (key === undefined) {
    raw.flags = ["catchall"];
    return [raw];
  }
  raw.key = key;
  if (set.flags?.includes("interval") !== true) return [raw];
  if (parseDatatypes(set.type).length > 1) {
    raw.keyEnd = keyEnd ?? key;
    return [raw];
  }
  const after = keyAfter(keyEnd ?? key);
  return after === undefined ? [raw] : [raw, { key: after, flags: INTERVAL_END }];
}
