/** Keys of a configuration in their usual spelling, whatever the case in which somebody wrote them. */
import { expect, test } from "bun:test";
import { join } from "node:path";
import { withUsualKeys } from "../../src/ipam/usual-keys.ts";

const SOURCES = join(import.meta.dir, "../../src");
/** How the plugin reads a field, where the key stands in the source. */
const READ =
  /\b(?:fields|ipam|item|runtime|args|masquerade)\??\.(?:string|boolean|integer|list|strings|ip|object|raw)\(\s*"(\w+)"|\bflag\("(\w+)"\)/g;

test("every key that the plugin reads of a configuration is known", async () => {
  const asked = new Set<string>();
  for (const file of [
    "cni/configuration.ts",
    "cni/address-management.ts",
    "ipam/configuration.ts",
    "ipam/range.ts",
  ]) {
    const text = await Bun.file(join(SOURCES, file)).text();
    for (const [, one, other] of text.matchAll(READ)) asked.add((one ?? other)!);
  }
  expect(asked.size).toBeGreaterThan(40);
  const respelt = (key: string): object => withUsualKeys({ [key.toUpperCase()]: 1 });
  expect([...asked].filter((key) => !(key in respelt(key)))).toEqual([]);
});

test("as deep as they lie; what is written as usual stands, and what is nobody's key stays", () => {
  const value = withUsualKeys({
    ipam: { Ranges: [[{ SUBNET: "10.0.0.0/24" }]] },
    Bridge: "other",
    bridge: "cni0",
    _comment: { Mtu: 1 },
    prevResult: { IPs: [] },
  }) as unknown;
  expect(value).toMatchObject({
    ipam: { ranges: [[{ subnet: "10.0.0.0/24" }]] },
    bridge: "cni0",
    _comment: { mtu: 1 },
    prevResult: { IPs: [] },
  });
  expect(withUsualKeys(JSON.parse('{"__proto__":{"MTU":5},"toString":1}'))).not.toHaveProperty("mtu");
  for (const plain of [null, 5, "x"]) expect(withUsualKeys(plain)).toBe(plain);
});
