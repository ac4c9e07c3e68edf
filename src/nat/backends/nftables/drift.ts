/** How the table that is there differs from the table that shall be. Pure. */
import { elementOf, type ElementSpec, type SetSpec } from "../../../linux/nftables/commands.ts";
import type { Expression } from "../../../linux/nftables/expressions.ts";
import { registerWord } from "../../../linux/nftables/registers.ts";
import type { Chain, NftSet, Rule, SetElement, Table } from "../../../linux/nftables/ruleset.ts";
import { MISSING, THERE, type NatDrift } from "../../backend.ts";
import { TABLE } from "./names.ts";
import type { WantedChain, WantedSet, WantedTable } from "./ruleset.ts";

/** What a set has too much, and what it lacks; an element with another value is both. */
export interface ElementDifference {
  readonly spec: SetSpec;
  readonly strange: readonly SetElement[];
  readonly lacking: readonly ElementSpec[];
}

export interface TableDifference {
  /** Empty when the kernel's table does exactly what is wanted. Counters may have any value. */
  readonly drifts: NatDrift[];
  /** By set, where elements of sets are all that differs; undefined when it is more than that. */
  readonly elements: readonly ElementDifference[] | undefined;
}

/** What counts of a table that is there. */
export interface FoundTable extends Pick<Table, "flags"> {
  readonly sets: readonly Pick<NftSet, "name" | "elements">[];
  readonly chains: readonly (Pick<Chain, "name" | "base"> & {
    readonly rules: readonly Pick<Rule, "handle" | "expressions">[];
  })[];
}

/** The drifts alone. @param ref which table it is */
export function compareTable(wanted: WantedTable, found: FoundTable | undefined, ref = TABLE): NatDrift[] {
  return differenceOf(wanted, found, ref).drifts;
}

/** @param ref which table it is */
export function differenceOf(
  wanted: WantedTable,
  found: FoundTable | undefined,
  ref = TABLE,
): TableDifference {
  const text = `${ref.family} ${ref.table}`;
  const object = `table ${text}`;
  if (found === undefined) return { drifts: [missing(object)], elements: undefined };
  const drifts: NatDrift[] = [];
  if (found.flags.includes("dormant")) {
    drifts.push({ object, expected: "in force", found: "dormant: the kernel skips its chains" });
  }
  const elements: ElementDifference[] = [];
  let ofElements = 0;
  for (const set of wanted.sets) {
    const there = found.sets.find(({ name }) => name === set.spec.set);
    const name = setObject(set.spec, text);
    if (there === undefined) drifts.push(missing(name));
    else {
      const difference = compareElements(set, there.elements);
      if (difference === undefined) continue;
      const own = elementDrifts(difference, set.elements.length, name);
      elements.push(difference);
      drifts.push(...own);
      ofElements += own.length;
    }
  }
  for (const chain of wanted.chains) {
    drifts.push(
      ...compareChain(
        chain,
        found.chains.find(({ name }) => name === chain.name),
        text,
      ),
    );
  }
  const strangers = [
    ...found.sets.filter(({ name }) => !wanted.sets.some(({ spec }) => spec.set === name)),
    ...found.chains.filter(({ name }) => !wanted.chains.some((chain) => chain.name === name)),
  ];
  for (const { name } of strangers) {
    drifts.push({ object: `${name} in ${object}`, expected: MISSING, found: "there, and no owner needs it" });
  }
  return { drifts, elements: drifts.length === ofElements ? elements : undefined };
}

function missing(object: string): NatDrift {
  return { object, expected: THERE, found: MISSING };
}

function compareChain(
  wanted: WantedChain,
  found: FoundTable["chains"][number] | undefined,
  table: string,
): NatDrift[] {
  const object = `chain ${table} ${wanted.name}`;
  if (found === undefined) return [missing(object)];
  if (canonical(wanted.base) !== canonical(found.base)) {
    return [{ object, expected: baseText(wanted.base), found: baseText(found.base) }];
  }
  const expected = wanted.rules.map(ruleKey);
  const actual = found.rules.map(({ expressions }) => ruleKey(expressions));
  const lost = expected.findIndex((rule) => !actual.includes(rule));
  if (lost >= 0) return [missing(`rule ${lost + 1} of ${object}`)];
  if (expected.join("\n") === actual.join("\n")) return [];
  const strange = actual.findIndex((rule) => !expected.includes(rule));
  if (strange < 0) {
    return [
      {
        object: `the rules of ${object}`,
        expected: "each there once, in order",
        found: "double or out of order",
      },
    ];
  }
  return [
    {
      object: `rule ${strange + 1} of ${object} (handle ${found.rules[strange]!.handle})`,
      expected: MISSING,
      found: "not ours",
    },
  ];
}

function baseText(base: Chain["base"]): string {
  if (base === undefined) return "a chain without a hook";
  return `of type ${base.type} at hook ${base.hook}, priority ${base.priority}, policy ${base.policy}`;
}

function setObject(spec: SetSpec, table: string): string {
  return `${spec.dataType === undefined ? "set" : "map"} ${table} ${spec.set}`;
}

/** undefined when there is none. */
function compareElements(
  { spec, elements }: WantedSet,
  found: readonly SetElement[],
): ElementDifference | undefined {
  const others = new Map(found.map((element) => [elementKey(element), element]));
  const strange: SetElement[] = [];
  const lacking: ElementSpec[] = [];
  for (const element of elements) {
    const expected = elementOf(spec, element);
    const key = elementKey(expected);
    const there = others.get(key);
    others.delete(key);
    if (there !== undefined && isSameValue(expected, there)) continue;
    lacking.push(element);
    if (there !== undefined) strange.push(there);
  }
  strange.push(...others.values());
  return strange.length + lacking.length === 0 ? undefined : { spec, strange, lacking };
}

/** @param length how many elements the set shall have */
function elementDrifts(
  { spec, strange, lacking }: ElementDifference,
  length: number,
  object: string,
): NatDrift[] {
  const there = new Map(strange.map((element) => [elementKey(element), element]));
  const drifts = lacking.map((element): NatDrift => {
    const expected = elementOf(spec, element);
    const other = there.get(elementKey(expected));
    there.delete(elementKey(expected));
    const name = typeof element.key === "object" ? element.key.join(" . ") : String(element.key);
    if (other === undefined) return missing(`${name} in ${object}`);
    return {
      object: `${name} in ${object}`,
      expected: elementValue(expected),
      found: elementValue(other),
    };
  });
  const others = there.size;
  if (drifts.length > MOST_NAMED)
    return [{ object, expected: allOf(length), found: `without ${drifts.length} of them${besides(others)}` }];
  if (others > 0) drifts.push({ object, expected: allOf(length), found: `with ${others} that are not ours` });
  return drifts;
}

/** So many elements of a set are named; of ten thousand that were flushed it is enough to know how many. */
const MOST_NAMED = 4;

function allOf(length: number): string {
  return `with ${length} element${length === 1 ? "" : "s"}`;
}

function besides(others: number): string {
  return others === 0 ? "" : ` and with ${others} others`;
}

/** The same for the same key or interval. */
export function elementKey(element: SetElement): string {
  return `${element.key} ${element.keyEnd ?? element.key}`;
}

/** Most are the same to the letter, and a set may have ten thousand. */
function isSameValue(a: SetElement, b: SetElement): boolean {
  if (a.comment === b.comment && isSameData(a.data, b.data)) return true;
  return elementValue(a) === elementValue(b);
}

function isSameData(a: SetElement["data"], b: SetElement["data"]): boolean {
  if (a === undefined || b === undefined) return a === b;
  if ("value" in a || "value" in b) return "value" in a && "value" in b && a.value === b.value;
  return a.verdict === b.verdict && a.chain === b.chain && a.argument === b.argument;
}

function elementValue(element: SetElement): string {
  return canonical([element.data, element.comment]);
}

/** The same for rules that do the same; counters may have any value. */
export function ruleKey(expressions: readonly Expression[]): string {
  return expressions.map((one) => canonical(one.kind === "counter" ? { kind: "counter" } : one)).join(" ");
}

/**
 * Text that is equal for equal meaning: fields in one order; what is absent, an empty list and the kernel's default are
 * the same; so are the two numbers that the first word of each 16-byte register has.
 */
function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value) ?? "-";
  const fields = Object.entries(value)
    .filter(
      ([, field]) =>
        field !== undefined && field !== "mask-xor" && !(Array.isArray(field) && field.length === 0),
    )
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, field]) =>
      /^[ds]reg/.test(key) && field > 0
        ? `${key}:word ${registerWord(Number(field))}`
        : `${key}:${canonical(field)}`,
    );
  return `{${fields.join(",")}}`;
}
