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

test("hostTraffic has what the node itself sends translated, in the families of that agent and of the sources", async () => {
  const own = async (text: string, sources: readonly string[], dialect: MasqOptions["dialect"]) =>
    (
      await readMasqFiles(
        [
          { name: "a", text },
          { name: "b", text: "" },
        ],
        { dialect, sources },
      )
    ).intent.sources
      .filter(({ fromNode }) => fromNode === true)
      .map(({ cidr }) => cidr);
  for (const dialect of ["ip-masq-agent", "azure-v2"] as const) {
    expect(await own("hostTraffic: true\n", SOURCES, dialect)).toEqual(["0.0.0.0/0"]);
    expect(await own("HOSTTRAFFIC: yes\n", ["fd00::/64"], dialect)).toEqual(["0.0.0.0/0", "::/0"]);
    expect(await own("hostTraffic: false\n", SOURCES, dialect)).toEqual([]);
    // Who is everybody is the node already.
    expect(await own("hostTraffic: true\n", ["0.0.0.0/0"], dialect)).toEqual([]);
    expect(own("hostTraffic: maybe\n", SOURCES, dialect)).rejects.toThrow(
      "hostTraffic: must be true or false",
    );
  }
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
    ["nonMasqueradeCIDRs:\n  -\n", "nonMasqueradeCIDRs[0]: is empty"],
    ["nonMasqueradeCIDRs: 10.0.0.0/8\n", "no list"],
    ["nonMasqueradeCIDRs: [10.0.0.1/8]\n", "host bits"],
    ["nonMasqueradeCIDRs: [ten]\n", "nonMasqueradeCIDRs[0]"],
    ["nonMasqueradeCIDRs: [7]\n", "no text"],
    ["masqLinkLocal: maybe\n", "true or false"],
    ["resyncInterval: 60\n", "duration"],
    ["resyncInterval: 1d\n", "duration"],
    ["resyncInterval:\n", "duration"],
    ["nonMasqueradeCIDRs: [10.0.0.5]\n", "no prefix length"],
    ["cidrLimit: 2\n", "holds 3 CIDRs, and cidrLimit is 2"],
    ["{nonMasqueradeCIDRs: [10.0.0.0/8]}", "is no JSON"],
    ['{"nonMasqueradeCIDRs": ["10.0.0.0/8"],}', "is no JSON"],
    ["a: *nobody\n", "reading config"],
    ["cidrLimit: many\n", "whole number"],
    ["cidrLimit: 1\nnonMasqueradeCIDRs: [10.0.0.0/8, 11.0.0.0/8]\n", "cidrLimit is 1"],
    ["cidrLimit: 0\nnonMasqueradeCIDRs: [10.0.0.0/8]\n", "cidrLimit is 0"],
    ["- a\n- list\n", "is no map of keys and values (line 1, column 1)"],
    ["a: [unclosed\n", ""],
  ] as const) {
    test(JSON.stringify(text), () => {
      expect(read(text)).rejects.toThrow(said);
    });
  }
});

test("what is refused is told with its field and its line, as the key is written there", async () => {
  for (const [text, said] of [
    [
      "# ours\nnonMasqueradeCIDRs:\n  - 10.0.0.0/8\n  - 10.0.0.1/8\n",
      'nonMasqueradeCIDRs[1]: "10.0.0.1/8" has host bits',
    ],
    ["\n\nMASQLINKLOCAL: maybe\n", "MASQLINKLOCAL: must be true or false"],
    ["a: b\n\n\n x: [\n", "config"],
  ] as const) {
    expect(read(text)).rejects.toThrow(said);
    expect(read(text)).rejects.toThrow(/\(line [345], column \d+\)/);
  }
});

test("YAML is read as 1.1, of equal keys the last counts, of documents the first", async () => {
  same(await untranslated("nonMasqueradeCIDRs: [10.0.0.0/8]\nmasqLinkLocal: yes\nmasqLinkLocalIPv6: On\n"), [
    "10.0.0.0/8",
  ]);
  const twice = "nonMasqueradeCIDRs: [10.0.0.0/8]\nnonMasqueradeCIDRs: [11.0.0.0/8]\n";
  same(await untranslated(twice), ["11.0.0.0/8", ...LOCAL]);
  same(await untranslated(`---\n${twice}---\nnonMasqueradeCIDRs: 7\n`), ["11.0.0.0/8", ...LOCAL]);
});

test("of keys that differ in case the last in order counts; in JSON the last that is written", async () => {
  const yaml = "nonmasqueradeCIDRs: [10.0.0.0/8]\nNonMasqueradeCIDRs: [11.0.0.0/8]\n";
  same(await untranslated(yaml), ["10.0.0.0/8", ...LOCAL]);
  const json = '{"nonmasqueradeCIDRs": ["10.0.0.0/8"], "NonMasqueradeCIDRs": ["11.0.0.0/8"]}';
  same(await untranslated(json), ["11.0.0.0/8", ...LOCAL]);
});

test("that there is no file is told: the policy becomes another one by it", async () => {
  expect((await read(undefined)).warnings).toEqual([
    "there is no config, so the defaults hold: 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 are left untranslated",
  ]);
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

  test("has neither an interval nor a limit of its own: those keys are passed over whatever they say", async () => {
    const policy = await azure("resyncInterval: 60\ncidrLimit: many\nnonMasqueradeCIDRs: [10.0.0.0/8]\n");
    same(policy.intent.untranslated, ["10.0.0.0/8", ...LOCAL]);
    expect(policy.warnings).toHaveLength(2);
    const many = Array.from({ length: 65 }, (_, index) => `10.${index}.0.0/16`);
    expect(azure(`nonMasqueradeCIDRs: [${many.join(", ")}]\ncidrLimit: 100\n`)).rejects.toThrow(
      "cidrLimit is 64",
    );
    expect((await azure()).warnings.join()).toContain("no file there begins with ip-masq");
  });
});
