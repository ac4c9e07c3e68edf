/** Sets, maps and their elements as text. */
import { datatypesOf, swapHex, VERDICT_TYPE, type Datatype } from "../datatypes.ts";
import { isBitmask } from "../symbols.ts";
import type { StatefulExpression } from "../expressions.ts";
import type { NftSet, SetElement } from "../ruleset.ts";
import {
  itemNumber,
  readUserdata,
  SET_DATA_INTERVAL,
  SET_DATA_TYPEOF,
  SET_KEY_TYPEOF,
  SET_MERGE_ELEMENTS,
  type UserdataItem,
} from "../userdata.ts";
import type { Data, Verdict } from "../values.ts";
import { formatDuration, formatInterval, formatValue, quoted } from "./format.ts";
import type { Value } from "./registers.ts";
import type { Scope } from "./scope.ts";
import { statefulText } from "./stateful.ts";
import { typeofValues } from "./typeof.ts";

/** A set with what its text needs worked out once. */
interface SetView {
  readonly set: NftSet;
  /** Types of the key's parts, with their sizes. */
  readonly key: readonly Datatype[];
  /** Types of a map's data; absent for verdicts and objects. */
  readonly data: readonly Datatype[] | undefined;
  readonly dataIsInterval: boolean;
  /** Of each part: how far its bits are shifted in the key, where nft looks up a field within loaded bytes. */
  readonly shifts: readonly number[];
}

function noted(items: readonly UserdataItem[] | undefined, type: number): UserdataItem | undefined {
  return items?.find((item) => item.type === type);
}

/** Types whose size their name does not tell get it from the set. */
function fit(types: readonly Datatype[], length: number, lengths?: readonly number[]): readonly Datatype[] {
  if (types.length === 1 && types[0]!.size !== length) return [{ ...types[0]!, size: length }];
  return types.map((type, index) => (type.size === 0 ? { ...type, size: lengths?.[index] ?? 4 } : type));
}

function viewOf(set: NftSet, left: readonly Value[] | undefined): SetView {
  const items = set.userdata === undefined ? undefined : readUserdata(set.userdata);
  const keyTypeof = typeofValues(noted(items, SET_KEY_TYPEOF)) ?? left;
  const byNumber = datatypesOf(set.keyType) ?? [];
  const fromTypeof = keyTypeof?.flatMap((value) => value.types);
  const key = fromTypeof !== undefined && fromTypeof.length >= byNumber.length ? fromTypeof : byNumber;
  const dataTypeof = typeofValues(noted(items, SET_DATA_TYPEOF));
  const interval = noted(items, SET_DATA_INTERVAL);
  const isVerdict = set.dataType === VERDICT_TYPE;
  const dataTypes =
    set.dataType === undefined || isVerdict
      ? undefined
      : (dataTypeof?.flatMap((value) => value.types) ??
        datatypesOf(set.dataType) ?? [integerType(set.dataLength ?? 4)]);
  const dataIsInterval = interval !== undefined && itemNumber(interval) === 1 && !isVerdict;
  const dataLength = (set.dataLength ?? 0) / (dataIsInterval ? 2 : 1);
  return {
    set,
    key: fit(key.length === 0 ? [integerType(set.keyLength)] : key, set.keyLength, set.fieldLengths),
    data: dataTypes === undefined ? undefined : fit(dataTypes, dataLength),
    dataIsInterval,
    shifts: (left ?? []).map((value) => value.shift ?? 0),
  };
}

function integerType(size: number): Datatype {
  return { name: "integer", number: 4, size, order: "big" };
}

/** The types that a map leads to: what stands in the register after a look-up. */
export function mapDataTypes(set: NftSet): readonly Datatype[] {
  return viewOf(set, undefined).data ?? [];
}

/** Whether a map leads to ranges. */
export function mapIsInterval(set: NftSet): boolean {
  return viewOf(set, undefined).dataIsInterval;
}

// ── Elements ─────────────────────────────────────────────────────────────────────────────────────────────────────

/** The bytes of each part; in concatenations each is padded to 4. */
function partsOf(types: readonly Datatype[], hex: string): string[] {
  if (types.length <= 1) return [hex];
  let at = 0;
  return types.map((type) => {
    const part = hex.slice(at, at + type.size * 2);
    at += Math.ceil(type.size / 4) * 8;
    return part;
  });
}

/** Intervals are kept in network order; only then does the order of bytes make the order of numbers. */
function keptBigEndian(view: SetView, type: Datatype): boolean {
  return (
    view.set.flags.includes("interval") &&
    type.order === "host" &&
    type.name !== "ifname" &&
    type.name !== "string"
  );
}

function unshift(part: string, shift: number): string {
  return (BigInt(`0x${part}`) >> BigInt(shift)).toString(16).padStart(part.length, "0");
}

function keyText(view: SetView, element: SetElement, scope: Scope): string {
  if (element.key === undefined) return "*";
  const first = partsOf(view.key, element.key);
  const last = element.keyEnd === undefined ? first : partsOf(view.key, element.keyEnd);
  return first
    .map((part, index) => {
      const type = view.key[index]!;
      const shift = view.shifts[index] ?? 0;
      const big = keptBigEndian(view, type);
      const text =
        shift === 0
          ? formatInterval(type, part, last[index]!, scope.options, big)
          : formatInterval(type, unshift(part, shift), unshift(last[index]!, shift), scope.options, big);
      return isBitmask(type.name) ? text.replaceAll(",", " | ") : text;
    })
    .join(" . ");
}

export function verdictText(verdict: Verdict): string {
  if (verdict.chain !== undefined) return `${verdict.verdict} ${verdict.chain}`;
  if (verdict.verdict === "queue") return `queue to ${verdict.argument ?? 0}`;
  return verdict.verdict;
}

function dataText(view: SetView, data: Data, scope: Scope): string {
  if ("verdict" in data) return verdictText(data);
  const types = view.data ?? [integerType(data.value.length / 2)];
  if (!view.dataIsInterval) {
    return partsOf(types, data.value)
      .map((part, index) => formatValue(types[index]!, part, scope.options))
      .join(" . ");
  }
  const half = data.value.length / 2;
  const first = partsOf(types, data.value.slice(0, half));
  const last = partsOf(types, data.value.slice(half));
  return first
    .map((part, index) => formatInterval(types[index]!, part, last[index]!, scope.options))
    .join(" . ");
}

function elementText(view: SetView, element: SetElement, scope: Scope): string {
  let text = keyText(view, element, scope);
  if (element.timeoutMs !== undefined && element.timeoutMs !== view.set.timeoutMs) {
    text += ` timeout ${formatDuration(element.timeoutMs)}`;
  }
  if (element.expiresMs !== undefined && scope.options.stateless !== true) {
    text += ` expires ${formatDuration(element.expiresMs)}`;
  }
  for (const expression of element.expressions ?? []) text += ` ${statefulText(expression, scope.options)}`;
  if (element.comment !== undefined) text += ` comment ${quoted(element.comment)}`;
  if (element.data !== undefined) text += ` : ${dataText(view, element.data, scope)}`;
  if (element.object !== undefined) text += ` : ${quoted(element.object)}`;
  return text;
}

/** Elements as they are sorted by nft: by key; the catch-all last. */
function sorted(view: SetView): readonly SetElement[] {
  const { elements } = view.set;
  if (view.set.fieldLengths !== undefined) return elements;
  const isHost =
    view.key[0]!.order === "host" && !keptBigEndian(view, view.key[0]!) && view.key[0]!.name !== "ifname";
  const order = (key: string): string => (isHost ? swapHex(key) : key);
  return [...elements].sort((x, y) => {
    const a = { key: x.key === undefined ? undefined : order(x.key) };
    const b = { key: y.key === undefined ? undefined : order(y.key) };
    if (a.key === undefined || b.key === undefined)
      return Number(a.key === undefined) - Number(b.key === undefined);
    return a.key < b.key ? -1 : a.key > b.key ? 1 : 0;
  });
}

/** An anonymous set or map within a rule: `{ 22, 80-90 }`. `left` is what is looked up, for types nft did not note. */
export function inlineSetText(set: NftSet, scope: Scope, left: readonly Value[] | undefined): string {
  const view = viewOf(set, left);
  return `{ ${sorted(view)
    .map((element) => elementText(view, element, scope))
    .join(", ")} }`;
}

/** How many elements nft puts on a line, by type of the key. */
const PER_LINE: Readonly<Record<string, number>> = {
  nf_proto: 5,
  integer: 5,
  arp_op: 5,
  inet_proto: 5,
  inet_service: 5,
  mark: 5,
  ct_state: 5,
  ct_dir: 5,
  ct_status: 5,
  tcp_flag: 5,
  ipv4_addr: 2,
};

function elementsText(view: SetView, scope: Scope): string {
  const perLine = view.key.length > 1 ? 1 : (PER_LINE[view.key[0]!.name] ?? 1);
  let text = "";
  for (const [index, element] of sorted(view).entries()) {
    if (index > 0) text += index % perLine === 0 ? ",\n\t\t\t     " : ", ";
    text += elementText(view, element, scope);
  }
  return `elements = { ${text} }`;
}

// ── Declarations ─────────────────────────────────────────────────────────────────────────────────────────────────

function typeNames(types: readonly Datatype[]): string {
  return types.map((type) => type.name).join(" . ");
}

function typeLine(view: SetView): string {
  const { set } = view;
  const items = set.userdata === undefined ? undefined : readUserdata(set.userdata);
  const key = typeofValues(noted(items, SET_KEY_TYPEOF));
  const data = typeofValues(noted(items, SET_DATA_TYPEOF));
  const interval = view.dataIsInterval ? "interval " : "";
  const leads = ((): string => {
    if (set.objectType !== undefined) return ` : ${set.objectType}`;
    if (set.dataType === undefined) return "";
    if (set.dataType === VERDICT_TYPE) return " : verdict";
    if (key !== undefined && data !== undefined)
      return ` : ${interval}${data.map((value) => value.text).join(" . ")}`;
    return ` : ${interval}${typeNames(view.data ?? [])}`;
  })();
  if (key !== undefined) return `typeof ${key.map((value) => value.text).join(" . ")}${leads}`;
  return `type ${typeNames(view.key)}${leads}`;
}

function flagsLine(set: NftSet): string | undefined {
  const shown = { constant: "constant", eval: "dynamic", interval: "interval", timeout: "timeout" } as const;
  // A default timeout says by itself that there are timeouts.
  const isPlain = !set.flags.some((flag) => flag === "constant" || flag === "eval" || flag === "interval");
  if (isPlain && set.timeoutMs !== undefined) return undefined;
  const flags = Object.entries(shown).flatMap(([flag, name]) =>
    set.flags.includes(flag as keyof typeof shown) ? [name] : [],
  );
  return flags.length === 0 ? undefined : `flags ${flags.join(",")}`;
}

/** The lines of a set or map, without indentation. */
export function setLines(set: NftSet, scope: Scope): string[] {
  const view = viewOf(set, undefined);
  const items = set.userdata === undefined ? undefined : readUserdata(set.userdata);
  const isMap = set.flags.includes("map") || set.flags.includes("object");
  const handle = scope.options.handles === true ? ` # handle ${set.handle}` : "";
  const lines = [`${isMap ? "map" : "set"} ${set.name} {${handle}`, `\t${typeLine(view)}`];
  const flags = flagsLine(set);
  if (set.policy === "memory") lines.push("\tpolicy memory");
  if (set.size !== undefined && !set.flags.includes("constant")) lines.push(`\tsize ${set.size}`);
  if (flags !== undefined) lines.push(`\t${flags}`);
  if (set.timeoutMs !== undefined) lines.push(`\ttimeout ${formatDuration(set.timeoutMs)}`);
  if (set.gcIntervalMs !== undefined) lines.push(`\tgc-interval ${formatDuration(set.gcIntervalMs)}`);
  if (noted(items, SET_MERGE_ELEMENTS) !== undefined) lines.push("\tauto-merge");
  const expressions: readonly StatefulExpression[] = set.expressions ?? [];
  for (const expression of expressions)
    lines.push(`\t${statefulText(expression, { ...scope.options, stateless: true })}`);
  if (set.comment !== undefined) lines.push(`\tcomment ${quoted(set.comment)}`);
  if (set.elements.length > 0) lines.push(`\t${elementsText(view, scope)}`);
  lines.push("}");
  return lines;
}
