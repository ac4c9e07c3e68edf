/** Every xtables match and target that is understood, read from the kernel and printed as iptables-save prints it. */
import { expect, test } from "bun:test";
import { listIpsets, ipsetNames } from "../../src/kernel/ipset/ipset.ts";
import { Nftables } from "../../src/kernel/nftables/nftables.ts";
import { openTransport, NETLINK_NETFILTER } from "../../src/kernel/netlink/transport.ts";
import { decodeExtension, extensionText } from "../../src/linux/xtables/extension.ts";
import { MATCHES } from "../../src/linux/xtables/matches/all.ts";
import { TARGETS } from "../../src/linux/xtables/targets/all.ts";
import { iptablesText } from "../../src/linux/nftables/text/iptables-nft.ts";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { freshNamespace } from "../support/world.ts";
import { ask, run, testWith } from "../support/witness.ts";
import { MATCH_SAMPLES, TARGET_SAMPLES, WRITTEN_OTHERWISE } from "./xtables-rules.ts";

test("every description has a rule that it is tried with", () => {
  const tried = new Set([...MATCH_SAMPLES, ...TARGET_SAMPLES].map((one) => one.name));
  const missing = [...MATCHES.keys(), ...TARGETS.keys()].filter(
    (name) => !tried.has(name) && !WRITTEN_OTHERWISE.has(name),
  );
  expect(missing).toEqual([]);
});

// A user namespace that maps one user has no name for the others, so that the kernel refuses rules about them.
testWith(["real-root", "iptables", "ipset"])("what iptables-save prints is what we print", () => {
  const namespace = freshNamespace();
  ask(namespace, ["ipset", "create", "nets", "hash:net", "timeout", "0", "counters", "skbinfo"]);
  ask(namespace, ["ipset", "create", "pairs", "hash:ip,port"]);
  const lines = [
    ...MATCH_SAMPLES.map((sample) => [sample, " -j ACCEPT"] as const),
    ...TARGET_SAMPLES.map((sample) => [sample, ""] as const),
  ];
  for (const family of [4, 6] as const) {
    for (const table of ["filter", "nat", "mangle", "raw"] as const) {
      const here = lines.filter(([one]) => one.table === table && (one.family ?? 4) === family);
      const [sure, perhaps] = [
        here.filter(([one]) => one.mayLack === undefined),
        here.filter(([one]) => one.mayLack !== undefined),
      ];
      const all = [sure, ...perhaps.map((one) => [one])].filter((group) => group.length > 0);
      for (const group of all) {
        const rules = group.flatMap(([one, verdict]) =>
          one.rules.map((rule) => `-A ${one.chain} ${rule}${verdict}`),
        );
        const isSure = group === sure;
        const printed = printedBy(namespace, family, table, rules, isSure);
        if (printed !== undefined) expect(printed.ours).toEqual(printed.theirs);
        if (isSure) expect(printed!.theirs).toHaveLength(rules.length);
      }
    }
  }
});

/** @param isSure a refusal of the kernel's is a failure */
function printedBy(
  namespace: NetworkNamespace,
  family: 4 | 6,
  tableName: string,
  rules: readonly string[],
  isSure: boolean,
): { ours: string[]; theirs: string[] } | undefined {
  const program = family === 6 ? "ip6tables-nft" : "iptables-nft";
  const loaded = run(namespace, [`${program}-restore`], `*${tableName}\n${rules.join("\n")}\nCOMMIT\n`);
  if (loaded.exitCode !== 0) {
    expect([isSure, loaded.stderr]).toEqual([false, loaded.stderr]);
    return undefined;
  }
  const saved = ask(namespace, [`${program}-save`, "-t", tableName]);
  const transport = openTransport(NETLINK_NETFILTER, { namespace });
  try {
    const { tables } = new Nftables(transport).ruleset();
    const table = tables.find(
      (one) => one.name === tableName && one.family === (family === 6 ? "ip6" : "ip"),
    );
    const ipsets = ipsetNames(listIpsets(namespace));
    const ours = table!.chains.flatMap((chain) =>
      chain.rules.map((rule) => `-A ${chain.name} ${iptablesText(rule, table!.family, { ipsets })}`),
    );
    return {
      ours: ours.sort(),
      theirs: saved
        .split("\n")
        .filter((one) => one.startsWith("-A "))
        .sort(),
    };
  } finally {
    transport.close();
  }
}

test("a structure that is too short, or of a revision that nobody knows, is not understood", () => {
  for (const [kind, table] of [
    ["match", MATCHES],
    ["target", TARGETS],
  ] as const) {
    for (const { name, revisions } of table.values()) {
      const context = { family: "ip" } as const;
      const of = (revision: number, bytes: number): unknown =>
        decodeExtension(kind, name, revision, new Uint8Array(bytes), context).understood;
      expect([name, of(Math.max(...revisions) + 1, 8192)]).toEqual([name, undefined]);
      const isEmpty = ["NOTRACK", "TRACE", "CHECKSUM", "comment"].includes(name);
      if (!isEmpty && !(name === "socket")) expect([name, of(revisions[0]!, 0)]).toEqual([name, undefined]);
    }
  }
  const unknown = decodeExtension("match", "policy", 9, new Uint8Array(312), { family: "ip" });
  expect(extensionText(unknown, { family: "ip" })).toBe(
    "-m policy /* revision 9, 312 bytes not understood */",
  );
});
