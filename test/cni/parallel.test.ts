/** Many at once: three hundred attachments, and several runtimes that know nothing of each other. */
import { describe, expect } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ask, testWith } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";
import { dataDirectory, linkNames, pings, podLinks, reserved } from "./node.ts";
import { bridgeNetwork, call, freshPod, must, startCall, type Attachment, type CniJson } from "./plugin.ts";

const withPrograms = testWith(["root", "ip", "nft", "ping"]);
const RANGE = { type: "host-local", subnet: "10.42.0.0/24" };

const PAIRS = 300;

withPrograms(
  `${PAIRS} pairs of ADD and DEL at once on a network whose bridge does not exist: all succeed, no address is given twice, nothing is left`,
  async () => {
    const node = freshNamespace("node");
    const conf = bridgeNetwork({ ipam: { type: "host-local", subnet: "10.42.0.0/16" } });
    const failures: string[] = [];
    const callAsync = async (command: string, pod: Attachment): Promise<CniJson> => {
      const json = await startCall(node, command, conf, pod).answer;
      if (json.code !== undefined) failures.push(`${command} ${pod.container}: ${JSON.stringify(json)}`);
      return json;
    };
    const pods = Array.from({ length: PAIRS }, (_, index) => freshPod(`c${index}`));
    /** From the end of its ADD to the beginning of its DEL an address is a pod's own. */
    const holders = new Map<string, string>();
    const { promise: allAdded, resolve: added } = Promise.withResolvers<void>();
    let adds = 0;
    await Promise.all(
      pods.map(async (pod, index) => {
        const address = (await callAsync("ADD", pod)).ips?.[0]?.address;
        // The others wait for all; what failed is told at the end.
        if (address === undefined) {
          if (++adds === PAIRS) added();
          return;
        }
        if (holders.has(address)) failures.push(`${address}: ${holders.get(address)}, ${pod.container}`);
        holders.set(address, pod.container);
        const file = join(dataDirectory(conf), address.split("/")[0]!);
        const owner = readFileSync(file, "utf8");
        if (owner !== `${pod.container}\r\neth0`) failures.push(`${address} of ${pod.container}: ${owner}`);
        if (++adds === PAIRS) added();
        // Half of them come and go while others come; the other half are all there at the same time.
        if (index % 2 === 0) await allAdded;
        holders.delete(address);
        await callAsync("DEL", pod);
      }),
    );
    expect(failures).toEqual([]);
    expect(podLinks(node)).toEqual([]);
    for (const pod of pods) expect(linkNames(pod.namespace)).toEqual(["lo"]);
    expect(reserved(conf)).toEqual([]);
    expect(ask(node, ["nft", "list", "ruleset"])).toBe("");
    expect(linkNames(node)).toEqual(["lo", "cni0"]);
  },
  300_000,
);

describe("two runtimes at once", () => {
  withPrograms("of eight ADDs of one interface one succeeds, and the others do it no harm", async () => {
    const node = freshNamespace("node");
    const conf = bridgeNetwork();
    const pod = freshPod("one");
    const answers = await Promise.all(
      Array.from({ length: 8 }, () => startCall(node, "ADD", conf, pod).answer),
    );
    const [winner, ...others] = answers.toSorted((a, b) => (a.code ?? 0) - (b.code ?? 0));
    expect(winner!.code).toBeUndefined();
    expect(new Set(others.map(({ code }) => code))).toEqual(new Set([102]));
    must(call(node, "CHECK", { ...conf, prevResult: winner }, pod));
    expect(reserved(conf)).toEqual([winner!.ips![0]!.address.split("/")[0]!]);
    expect(pings(pod.namespace, "10.42.0.1")).toBe(true);
    must(call(node, "DEL", conf, pod));
    expect(reserved(conf)).toEqual([]);
  });

  withPrograms(
    "two networks on one bridge that does not exist, each with pods from two runtimes",
    async () => {
      const node = freshNamespace("node");
      const networks = [bridgeNetwork(), bridgeNetwork({ ipam: { ...RANGE, rangeStart: "10.42.0.128" } })];
      networks[0] = { ...networks[0], ipam: { ...RANGE, rangeEnd: "10.42.0.127" } };
      const pods = Array.from({ length: 8 }, (_, index) => freshPod(`p${index}`));
      const results = await Promise.all(
        pods.map((pod, index) => startCall(node, "ADD", networks[index % 2]!, pod).answer),
      );
      expect(new Set(results.map(({ ips }) => ips?.[0]?.address)).size).toBe(8);
      for (const [index, pod] of pods.entries()) {
        must(call(node, "CHECK", { ...networks[index % 2], prevResult: results[index] }, pod));
        expect(pings(pod.namespace, "10.42.0.1")).toBe(true);
      }
      await Promise.all(pods.map((pod, index) => startCall(node, "DEL", networks[index % 2]!, pod).answer));
      expect(networks.flatMap(reserved)).toEqual([]);
      expect(ask(node, ["nft", "list", "ruleset"])).toBe("");
    },
  );

  withPrograms(
    "an ADD while the DEL of the same interface runs: afterwards it is whole, or not there",
    async () => {
      const node = freshNamespace("node");
      const conf = bridgeNetwork();
      const pod = freshPod("one");
      for (let turn = 0; turn < 10; turn++) {
        must(call(node, "ADD", conf, pod));
        const deleting = startCall(node, "DEL", conf, pod);
        const added = await startCall(node, "ADD", conf, pod).answer;
        await deleting.answer;
        if (added.code === undefined) {
          must(call(node, "CHECK", { ...conf, prevResult: added }, pod));
          must(call(node, "DEL", conf, pod));
        }
        expect(reserved(conf)).toEqual([]);
        expect(linkNames(pod.namespace)).toEqual(["lo"]);
      }
    },
  );
});
