/**
 * What the kernel's own headers (linux-libc-dev) say a name is worth. The C compiler that Bun carries reads them, so
 * that enums, macros and the sizes of structures come out as C has them, and no number is trusted to a hand.
 */
import { test } from "bun:test";
import { cc } from "bun:ffi";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { DescribedCodec, DescribedSet } from "../../src/linux/netlink/codec.ts";

const INCLUDE = "/usr/include";
const MULTIARCH = `${INCLUDE}/${process.arch === "arm64" ? "aarch64" : "x86_64"}-linux-gnu`;

/** `test`, where the headers are installed; elsewhere a skip that says so. */
export const testWithHeaders = existsSync(`${INCLUDE}/linux/rtnetlink.h`)
  ? test
  : (((name: string): void =>
      test.skip(`${name} [needs linux-libc-dev]`, () => {})) as unknown as typeof test);

/**
 * The values of C expressions: "IFLA_MTU", "sizeof(struct rtmsg)", "offsetof(struct rtmsg, rtm_type)".
 * @param headers e.g. "linux/rtnetlink.h"
 */
export function evaluateC(headers: readonly string[], expressions: readonly string[]): Map<string, number> {
  const directory = mkdtempSync(join(tmpdir(), "wayout-headers-"));
  try {
    const source = join(directory, "constants.c");
    writeFileSync(
      source,
      [
        "#include <stddef.h>",
        ...headers.map((header) => `#include <${header}>`),
        "double value_of(int index) { switch (index) {",
        ...expressions.map(
          (expression, index) => `case ${index}: return (double)(long long)(${expression});`,
        ),
        "} return -1; }",
      ].join("\n"),
    );
    const compiled = cc({
      source,
      flags: [`-I${MULTIARCH}`, `-I${INCLUDE}`],
      symbols: { value_of: { args: ["int"], returns: "double" } },
    });
    try {
      return new Map(expressions.map((expression, index) => [expression, compiled.symbols.value_of(index)]));
    } finally {
      compiled.close();
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Every name and number of the sets and of all sets inside them. Sets are walked once. */
export function namesOf(
  sets: readonly DescribedSet[],
  seen: Set<DescribedSet> = new Set(),
): [string, number][] {
  const names: [string, number][] = [];
  for (const set of sets) {
    if (seen.has(set)) continue;
    seen.add(set);
    names.push(...[...set.names()].map(([name, number]): [string, number] => [name, number]));
    for (const entry of Object.values(set.table) as readonly TableEntry[]) {
      names.push(...namesOf(setsInside(entry), seen));
    }
  }
  return names;
}

interface TableEntry {
  readonly codec?: DescribedCodec;
  readonly variants?: Readonly<Record<string, DescribedSet>>;
}

function setsInside(entry: TableEntry): DescribedSet[] {
  const inside = Object.values(entry.variants ?? {});
  for (let codec = entry.codec; codec !== undefined; codec = codec.element) {
    if (codec.set !== undefined) inside.push(codec.set);
  }
  return inside;
}

/**
 * Compares named numbers with the headers. Names that these headers do not have yet are not compared, and returned.
 * @returns `wrong` as "IFLA_MTU is 4 in the headers, 5 here"
 */
export function compareWithHeaders(
  headers: readonly string[],
  numbers: readonly (readonly [name: string, number: number])[],
): { readonly wrong: string[]; readonly unknown: string[]; readonly compared: number } {
  const words = new Set(headers.flatMap((header) => wordsOf(header)));
  const known = numbers.filter(([name]) => words.has(name));
  const values = evaluateC(headers, [...new Set(known.map(([name]) => name))]);
  return {
    wrong: known
      .filter(([name, number]) => values.get(name) !== number)
      .map(([name, number]) => `${name} is ${values.get(name)} in the headers, ${number} here`),
    unknown: numbers.filter(([name]) => !words.has(name)).map(([name]) => name),
    compared: known.length,
  };
}

function wordsOf(header: string): string[] {
  const path = [INCLUDE, MULTIARCH]
    .map((root) => join(root, header))
    .find((candidate) => existsSync(candidate));
  if (path === undefined) throw new Error(`there is no ${header} under ${INCLUDE}`);
  // Comments name constants that were never defined; code does not.
  const code = readFileSync(path, "utf8").replace(/\/\*.*?\*\//gs, " ");
  return code.match(/\w+/g) ?? [];
}
