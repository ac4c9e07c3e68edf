/** The plugin beside `wayout attach` on one node: each does its own, and neither takes the other's away. */
import { afterEach, expect } from "bun:test";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { ask, run, testWith } from "../support/witness.ts";
import { linkNames, nodeWithOutside, pings } from "./node.ts";
import { bridgeNetwork, call, freshPod, must, pluginProgram } from "./plugin.ts";

const withPrograms = testWith(["root", "ip", "nft", "ping"]);
const BLUE = `blue-${process.pid}`;
const CACHE = "/var/lib/cni/results";

afterEach(() => {
  run(undefined, ["ip", "netns", "delete", BLUE]);
  rmSync("/run/wayout", { recursive: true, force: true });
});

interface Listed {
  readonly namespaces: readonly { readonly kind: string; readonly name: string; readonly state: string }[];
}

withPrograms(
  "both kinds are listed; whoever goes first leaves the other's rules and forwarding as they are",
  () => {
    const { node } = nodeWithOutside();
    const wayout = (...args: string[]): string => ask(node, [pluginProgram(), ...args]);
    const listed = (): string[][] =>
      (JSON.parse(wayout("list", "--json")) as Listed).namespaces.map(({ kind, name, state }) => [
        kind,
        name,
        state,
      ]);
    const conf = bridgeNetwork();
    for (const attachGoesFirst of [true, false]) {
      wayout("attach", BLUE, "--create");
      const pod = freshPod("c0ffee");
      const result = must(call(node, "ADD", conf, pod));
      const file = `${CACHE}/${String(conf["name"])}-c0ffee-eth0`;
      mkdirSync(CACHE, { recursive: true });
      writeFileSync(
        file,
        JSON.stringify({
          kind: "cniCacheV1",
          containerId: "c0ffee",
          ifName: "eth0",
          networkName: conf["name"],
          netns: pod.netns,
          config: Buffer.from(JSON.stringify(conf)).toString("base64"),
          result,
        }),
      );
      expect(listed()).toEqual([
        ["attach", BLUE, "ok"],
        ["cni", "c0ffee", "ok"],
      ]);
      {
        using blue = NetworkNamespace.named(BLUE);
        expect(pings(blue, "198.51.100.1") && pings(pod.namespace, "198.51.100.1")).toBe(true);
        if (attachGoesFirst) {
          wayout("detach", BLUE);
          expect(listed()).toEqual([["cni", "c0ffee", "ok"]]);
          expect(pings(pod.namespace, "198.51.100.1")).toBe(true);
          must(call(node, "CHECK", { ...conf, prevResult: result }, pod));
        }
        must(call(node, "DEL", conf, pod));
        rmSync(file);
        expect(linkNames(pod.namespace)).toEqual(["lo"]);
        if (!attachGoesFirst) {
          expect(listed()).toEqual([["attach", BLUE, "ok"]]);
          expect(pings(blue, "198.51.100.1")).toBe(true);
          wayout("detach", BLUE);
        }
      }
      expect(ask(node, ["nft", "list", "ruleset"])).toBe("");
      expect(listed()).toEqual([]);
    }
  },
);
