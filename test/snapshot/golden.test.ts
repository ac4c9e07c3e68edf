/** A snapshot of every version that is read, as it was written then: what was promised once holds. */
import { expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { diagnose } from "../../src/doctor/diagnose.ts";
import { parseSnapshot } from "../../src/snapshot/file.ts";
import { SNAPSHOT_VERSION } from "../../src/snapshot/snapshot.ts";

const DIRECTORY = join(import.meta.dir, "golden");

for (const name of readdirSync(DIRECTORY)) {
  test(`${name} is read, and judged as it was`, () => {
    const snapshot = parseSnapshot(readFileSync(join(DIRECTORY, name), "utf8"), name);
    const pod = snapshot.pods[0]!;
    expect(pod.resolvConf?.nameservers).toEqual(["198.51.100.53"]);
    const { healthy, certain, findings } = diagnose(snapshot, pod, {
      address: "198.51.100.80",
      protocol: "tcp",
      port: 443,
    });
    const stops = findings.filter((one) => one.stopsTraffic).map((one) => one.code);
    expect({ healthy, certain, stops }).toEqual({ healthy: true, certain: true, stops: [] });
  });
}

test("the version that is written now has one", () => {
  expect(readdirSync(DIRECTORY)).toContain(`v${SNAPSHOT_VERSION}.json`);
});
