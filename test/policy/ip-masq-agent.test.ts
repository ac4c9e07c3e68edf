/** Files of ip-masq-agent and of Azure's second version, read as those agents read them. */
import { describe, expect, test } from "bun:test";
import { readMasqFiles, type MasqOptions, type MasqPolicy } from "../../src/policy/dialects/ip-masq-agent.ts";
import { parseGoDuration } from "../../src/policy/go.ts";

const SOURCES = ["10.244.1.0/24"];
const LOCAL = ["169.254.0.0/16", "fe80::/10"];
const RFC1918 = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"];

function read(text: string | undefined): Promise<MasqPolicy> {
  return readMasqFiles([{ name: "config", text }], { dialect: "ip-masq-agent", sources: SOURCES });
}

async function untranslated(text: string | undefined): Promise<readonly string[]> {
  return (await read(text)).intent.untranslated;
}

function same(found: readonly string[], wanted: readonly string[]): void {
  expect([...found].sort()).toEqual([...wanted].sort());
}

test("without a file, with an empty one, and with other keys only, the defaults hold", async () => {
  for (const text of [undefined, "", "{}", "# nothing\n", "resyncInterval: 30s\n"]) {
    same(await untranslated(text), [...RFC1918, ...LOCAL]);
  }
});

test("a list replaces the defaults, in YAML and in JSON, whatever the case of the key", async () => {
  for (const text of [
    "nonMasqueradeCIDRs:\n  - 10.0.0.0/8\n",
    '{"nonMasqueradeCIDRs": ["10.0.0.0/8"]}',
    "NONMASQUERADECIDRS: [10.0.0.0/8]\n",
    "nonmasqueradecidrs: [10.0.0.0/8]\n",
  ]) {
    same(await untranslated(text), ["10.0.0.0/8", ...LOCAL]);
  }
});

test("masqLinkLocal false leaves link-local destinations untranslated, true does not", async () => {
  same(
    await untranslated("nonMasqueradeCIDRs: [10.0.0.0/8]\nmasqLinkLocal: true\nmasqLinkLocalIPv6: true\n"),
    ["10.0.0.0/8"],
  );
  same(await untranslated("nonMasqueradeCIDRs: [10.0.0.0/8]\nmasqLinkLocal: true\n"), [
    "10.0.0.0/8",
    "fe80::/10",
  ]);
});

test("a list that is there and empty translates everything, and that is said loudly", async () => {
  for (const text of ["nonMasqueradeCIDRs: []\n", "nonMasqueradeCIDRs:\n", "nonMasqueradeCIDRs: null\n"]) {
    const policy = await read(text);
    same(policy.intent.untranslated, LOCAL);
    expect(policy.warnings.join()).toContain("EVERYTHING is translated");
  }
});

test("unknown keys are passed over, and told", async () => {
  const policy = await read("nonMasqueradeCIDR: [10.0.0.0/8]\n");
  same(policy.intent.untranslated, [...RFC1918, ...LOCAL]);
  expect(policy.warnings).toEqual(['config: "nonMasqueradeCIDR" is not a known key, and is ignored']);
});

describe("refused, so that what was there before stays", () => {
  for (const [text, said] of [
    ["nonMasqueradeCIDRs:\n  -\n", "nonMasqueradeCIDRs[0] is empty"],
    ["nonMasqueradeCIDRs: 10.0.0.0/8\n", "no list"],
    ["nonMasqueradeCIDRs: [10.0.0.1/8]\n", "host bits"],
    ["nonMasqueradeCIDRs: [ten]\n", "nonMasqueradeCIDRs[0]"],
    ["nonMasqueradeCIDRs: [7]\n", "no text"],
    ["masqLinkLocal: maybe\n", "true or false"],
    ["resyncInterval: 60\n", "duration"],
    ["resyncInterval: 1d\n", "duration"],
    ["cidrLimit: many\n", "whole number"],
    ["cidrLimit: 1\nnonMasqueradeCIDRs: [10.0.0.0/8, 11.0.0.0/8]\n", "cidrLimit is 1"],
    ["cidrLimit: 0\nnonMasqueradeCIDRs: [10.0.0.0/8]\n", "cidrLimit is 0"],
    ["- a\n- list\n", "no map"],
    ["a: [unclosed\n", ""],
  ] as const) {
    test(JSON.stringify(text), () => {
      expect(read(text)).rejects.toThrow(said);
    });
  }
});

test("intervals are Go's; one that is none is told, and the usual one holds", async () => {
  expect((await read("resyncInterval: 1m30s\n")).resyncIntervalMs).toBe(60_000);
  expect((await read("resyncInterval: 5s\n")).resyncIntervalMs).toBe(5_000);
  for (const text of ["0s", "-1s"]) {
    const policy = await read(`resyncInterval: ${text}\n`);
    expect([policy.resyncIntervalMs, policy.warnings.length]).toEqual([60_000, 1]);
  }
});

test("durations as time.ParseDuration reads them", () => {
  for (const [text, ms] of [
    ["1h30m", 5_400_000],
    [".5s", 500],
    ["1.5h", 5_400_000],
    ["0", 0],
    ["-1s", -1000],
    ["+2ms", 2],
    ["100us", 0.1],
  ] as const) {
    expect([text, parseGoDuration(text)]).toEqual([text, ms]);
  }
  for (const text of ["", "60", "1d", "s", "1h 30m", ".", "1..5s", "--1s", "1s x"])
    expect(parseGoDuration(text)).toBeUndefined();
});

describe("Azure's directory", () => {
  const azure = (...texts: readonly string[]): Promise<MasqPolicy> => {
    const options: MasqOptions = { dialect: "azure-v2", sources: SOURCES };
    return readMasqFiles(
      texts.map((text, index) => ({ name: `ip-masq-${index}`, text })),
      options,
    );
  };

  test("is the union of its files, and each prefix knows where it comes from", async () => {
    const policy = await azure(
      "nonMasqueradeCIDRs: [10.0.0.0/8]\n",
      "nonMasqueradeCIDRs: [10.0.0.0/8, 192.0.2.0/24]\nmasqLinkLocal: true\n",
    );
    same(policy.intent.untranslated, ["10.0.0.0/8", "192.0.2.0/24", "fe80::/10"]);
    expect(policy.origins.get("10.0.0.0/8")).toEqual(["ip-masq-0", "ip-masq-1"]);
    expect(policy.origins.get("192.0.2.0/24")).toEqual(["ip-masq-1"]);
  });

  test("has defaults only while it holds no file", async () => {
    same((await azure()).intent.untranslated, [...RFC1918, ...LOCAL]);
    const policy = await azure("masqLinkLocal: false\n");
    same(policy.intent.untranslated, LOCAL);
    expect(policy.warnings.join()).toContain("EVERYTHING");
  });
});
