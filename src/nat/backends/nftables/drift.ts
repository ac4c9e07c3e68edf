/** How the table that is there differs from the table that shall be. Pure. */
import { elementOf } from "../../../linux/nftables/commands.ts";
import type { Expression } from "../../../linux/nftables/expressions.ts";
import { registerWord } from "../../../linux/nftables/registers.ts";
import type { Chain, NftSet, SetElement, Table } from "../../../linux/nftables/ruleset.ts";
import { MISSING, THERE, type NatDrift } from "../../backend.ts";
import { TABLE } from "./names.ts";
import type { WantedChain, WantedSet, WantedTable } from "./ruleset.ts";

/**
 * Empty when the kernel's table does exactly what is wanted. Counters may have any value.
 * @param ref which table it is
 */
export function compareTable(wanted: WantedTable, found: Table | undefined, ref = TABLE): NatDrift[] {
  const text = `${ref.family} ${ref.table}`;
  const object = `table ${text}`;
  if (found === undefined) return [missing(object)];
  const drifts: NatDrift[] = [];
  if (found.flags.includes("dormant")) {
    drifts.push({ object, expected: "in force", found: "dormant: the kernel skips its chains" });
  }
  for (const set of wanted.sets) {
    drifts.push(
      ...compareSet(
        set,
        found.sets.find(({ name }) => name === set.spec.set),
        text,
      ),
    );
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
  return drifts;
}

function missing(object: string): NatDrift {
  return { object, expected: THERE, found: MISSING };
}

function compareChain(wanted: WantedChain, found: Chain | undefined, table: string): NatDrift[] {
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

function compareSet(wanted: WantedSet, found: NftSet | undefined, table: string): NatDrift[] {
  const { spec } = wanted;
  const object = `${spec.dataType === undefined ? "set" : "map"} ${table} ${spec.set}`;
  if (found === undefined) return [missing(object)];
  const actual = new Map(found.elements.map((element) => [elementKey(element), element]));
  const { length } = wanted.elements;
  const drifts: NatDrift[] = [];
  for (const element of wanted.elements) {
    const expected = elementOf(spec, element);
    const key = elementKey(expected);
    const there = actual.get(key);
    actual.delete(key);
    if (there !== undefined && isSameValue(expected, there)) continue;
    const name = typeof element.key === "object" ? element.key.join(" . ") : String(element.key);
    if (there === undefined) drifts.push(missing(`${name} in ${object}`));
    else {
      drifts.push({
        object: `${name} in ${object}`,
        expected: elementValue(expected),
        found: elementValue(there),
      });
    }
  }
  const others = actual.size;
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
