/** Names that other versions of wayout made, or will look for: pinned to the letter (docs/state.md). */
import { expect, test } from "bun:test";
import * as fc from "fast-check";
import {
  bridgeOwner,
  formerNetworkOwner,
  hostVethName,
  iptablesChain,
  isLabelOf,
  labelOf,
  networkOwner,
  readLabel,
} from "../../src/naming/names.ts";
import { wyhash } from "../../src/naming/wyhash.ts";
import { xxHash64 } from "../../src/naming/xxhash64.ts";

function digits(text: string): string {
  return xxHash64(text).toString(16).padStart(16, "0");
}

test("XXH64, seed 0, as it is specified", () => {
  for (const [text, hash] of [
    ["", "ef46db3751d8e999"],
    ["a", "d24ec4f1a98c6e5b"],
    ["abc", "44bc2cf5ad770999"],
    ["x".repeat(31), "60dd0d01083b99f0"],
    ["x".repeat(32), "e2df261fc2ec30eb"],
    ["x".repeat(100), "92f0de5a88a3c094"],
    ["éß∑", "92a0669d3db27c93"],
  ] as const) {
    expect(digits(text)).toBe(hash);
  }
  // Another implementation, as long as it has the algorithm.
  fc.assert(
    fc.property(fc.string({ maxLength: 200, unit: "grapheme" }), (text) => {
      expect(digits(text)).toBe(Bun.hash.xxHash64(text).toString(16).padStart(16, "0"));
    }),
  );
});

test("what version 0.1.0 took for long names", () => {
  expect(wyhash("")).toBe(0x409638ee2bde459n);
  fc.assert(
    fc.property(fc.string({ maxLength: 300, unit: "grapheme" }), (text) => {
      expect(wyhash(text)).toBe(Bun.hash(text));
    }),
  );
});

test("host ends of links", () => {
  expect(hostVethName("cbr0", "c0ffee", "eth0")).toBe("woutz7aic3dgfbf");
  expect(hostVethName("podman", "7f".repeat(32), "eth0")).toBe("woutcvjptohyx7v");
  expect(hostVethName("br0", "/run/netns/blue", "eth0")).toBe("woutaax4yf7spcd");
});

test("owners of NAT rules, and chains of iptables", () => {
  expect(networkOwner("blue")).toBe("cni/blue");
  const long = "n".repeat(90);
  expect(networkOwner(long)).toBe(`cni/${"n".repeat(59)}-7f5dfca63a9f9c31`);
  expect(networkOwner(long)).toHaveLength(80);
  expect(formerNetworkOwner("blue")).toBeUndefined();
  expect(bridgeOwner("br0.7 ü")).toBe("attach/br0.2e7.20.fc");
  expect(iptablesChain("cni/blue")).toBe("WAYOUT-5485791fd847ae4a");
});

test("aliases of links, and those of earlier versions", () => {
  const owner = { container: "c0ffee", interfaceName: "eth0" };
  const alias = labelOf("blue", owner);
  expect(alias).toBe("cni/blue c0ffee eth0");
  expect(readLabel(alias)).toEqual({ network: "blue", owner });
  expect([isLabelOf("blue", alias), isLabelOf("blu", alias), isLabelOf("blue", undefined)]).toEqual([
    true,
    false,
    false,
  ]);
  expect(readLabel("docker")).toBeUndefined();
  const long = "n".repeat(90);
  expect(isLabelOf(long, labelOf(long, owner))).toBe(true);
  // Version 0.1.0 took its runtime's hash for names that are too long.
  const former = formerNetworkOwner(long)!;
  expect(former).toBe(`cni/${"n".repeat(59)}-7e5b7ea008fa063a`);
  expect(isLabelOf(long, `${former} c0ffee eth0`)).toBe(true);
});
