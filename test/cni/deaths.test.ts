/** Deaths half-way: nothing is lost and nothing is left. */
import { describe, expect } from "bun:test";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { deathsOf, dies, type Mortal } from "../support/deaths.ts";
import { ask, run, testWith } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";
import { dataDirectory, linkNames, pings, podLinks, reserved } from "./node.ts";
import {
  bridgeNetwork,
  call,
  environmentOf,
  freshPod,
  must,
  pluginDirectory,
  type Attachment,
  type Configuration,
} from "./plugin.ts";

const withStrace = testWith(["root", "ip", "nft", "ping", "strace"]);

/** A call of the plugin as what is to die. */
function mortalCall(node: NetworkNamespace, command: string, conf: Configuration, pod: Attachment): Mortal {
  return {
    node,
    command: [join(pluginDirectory(), "wayout")],
    input: JSON.stringify(conf),
    environment: environmentOf(command, pod),
  };
}

/** What a writer or a holder of a lock leaves when it is killed; host-local's own lock file stays by design. */
function traces(conf: Configuration): string[] {
  const names = (directory: string): string[] =>
    existsSync(directory) ? readdirSync(directory, { recursive: true, encoding: "utf8" }) : [];
  const isTrace = (name: string): boolean => /\.new-|locks\/./.test(name);
  return [...names("/run/wayout"), ...names(dataDirectory(conf))].filter(isTrace);
}

describe("killed before any of its system calls", () => {
  function expectNothingOf(node: NetworkNamespace, pod: NetworkNamespace, conf: Configuration): void {
    expect(podLinks(node)).toEqual([]);
    expect(linkNames(pod)).toEqual(["lo"]);
    expect(reserved(conf)).toEqual([]);
    expect(ask(node, ["nft", "list", "ruleset"])).toBe("");
    expect(traces(conf)).toEqual([]);
  }

  for (const which of ["very first", "next"]) {
    withStrace(
      `ADD of a network's ${which} pod: DEL cleans up, with a namespace or without, and so does GC; the next ADD works`,
      () => {
        const node = freshNamespace("node");
        const pod = freshPod("victim");
        const subnet = "10.42.0.0/29";
        const conf = bridgeNetwork({ macspoofchk: true, ipam: { type: "host-local", subnet } });
        const cleanUps = [
          () => call(node, "DEL", conf, pod),
          () => call(node, "DEL", conf, { container: "victim" }),
          () => call(node, "GC", { ...conf, "cni.dev/valid-attachments": [] }),
        ];
        const begin = (): void => {
          if (which === "very first") run(node, ["ip", "link", "delete", "cni0"]);
        };
        const add = mortalCall(node, "ADD", conf, pod);
        if (which === "next") {
          must(call(node, "ADD", conf, pod));
          must(call(node, "DEL", conf, pod));
        }
        const deaths = deathsOf(add);
        must(call(node, "DEL", conf, pod));
        let died = 0;
        for (const [turn, death] of deaths.entries()) {
          begin();
          if (dies(add, death)) died++;
          must(cleanUps[turn % cleanUps.length]!());
          expectNothingOf(node, pod.namespace, conf);
        }
        expect(died).toBeGreaterThan(15);
        const result = must(call(node, "ADD", conf, pod));
        must(call(node, "CHECK", { ...conf, prevResult: result }, pod));
        expect(pings(pod.namespace, "10.42.0.1")).toBe(true);
      },
      180_000,
    );
  }

  withStrace(
    "DEL: the next DEL finishes it, or GC does; who is attached besides is not hurt",
    () => {
      const node = freshNamespace("node");
      const [pod, other] = [freshPod("victim"), freshPod("other")];
      const conf = bridgeNetwork({ macspoofchk: true });
      const kept = must(call(node, "ADD", conf, other));
      const valid = [{ containerID: "other", ifname: "eth0" }];
      const del = mortalCall(node, "DEL", conf, pod);
      must(call(node, "ADD", conf, pod));
      let died = 0;
      for (const [turn, death] of deathsOf(del).entries()) {
        must(call(node, "ADD", conf, pod));
        if (dies(del, death)) died++;
        if (turn % 2 === 0) must(call(node, "DEL", conf, pod));
        else must(call(node, "GC", { ...conf, "cni.dev/valid-attachments": valid }));
        expect(podLinks(node)).toEqual([kept.interfaces![1]!.name]);
        expect(linkNames(pod.namespace)).toEqual(["lo"]);
        expect(reserved(conf)).toEqual(["10.42.0.2"]);
        expect(traces(conf)).toEqual([]);
      }
      expect(died).toBeGreaterThan(8);
      must(call(node, "CHECK", { ...conf, prevResult: kept }, other));
      must(call(node, "DEL", conf, other));
      expectNothingOf(node, pod.namespace, conf);
    },
    180_000,
  );

  /** Also between two system calls, and amid one. */
  withStrace(
    "ADD and DEL after any time: the next DEL finishes it, and the next ADD works",
    () => {
      const node = freshNamespace("node");
      const pod = freshPod("victim");
      const conf = bridgeNetwork({ macspoofchk: true });
      const begun = performance.now();
      must(call(node, "ADD", conf, pod));
      const longest = (performance.now() - begun) / 1000;
      let died = 0;
      const KILLS = 25;
      for (let turn = 0; turn < KILLS; turn++) {
        for (const command of ["DEL", "ADD"]) {
          // The first one comes before any program could have done anything.
          const seconds = (0.0001 + (longest * turn) / KILLS).toFixed(6);
          const mortal = mortalCall(node, command, conf, pod);
          const killed = ["timeout", "-s", "KILL", seconds, ...mortal.command];
          if (run(node, killed, mortal.input, mortal.environment).exitCode !== 0) died++;
          must(call(node, "DEL", conf, pod));
          expectNothingOf(node, pod.namespace, conf);
          if (command === "ADD") must(call(node, "ADD", conf, pod));
        }
      }
      expect(died).toBeGreaterThan(1);
      must(call(node, "DEL", conf, pod));
      expectNothingOf(node, pod.namespace, conf);
    },
    180_000,
  );

  withStrace(
    "GC: the next GC finishes it, and who is valid is not hurt",
    () => {
      const node = freshNamespace("node");
      const [pod, other] = [freshPod("victim"), freshPod("other")];
      const conf = bridgeNetwork();
      const kept = must(call(node, "ADD", conf, other));
      const gc = { ...conf, "cni.dev/valid-attachments": [{ containerID: "other", ifname: "eth0" }] };
      const mortal = mortalCall(node, "GC", gc, pod);
      must(call(node, "ADD", conf, pod));
      let died = 0;
      for (const death of deathsOf(mortal)) {
        must(call(node, "ADD", conf, pod));
        if (dies(mortal, death)) died++;
        must(call(node, "GC", gc));
        expect(podLinks(node)).toEqual([kept.interfaces![1]!.name]);
        expect(reserved(conf)).toEqual(["10.42.0.2"]);
        expect(traces(conf)).toEqual([]);
      }
      expect(died).toBeGreaterThan(4);
      must(call(node, "CHECK", { ...conf, prevResult: kept }, other));
    },
    180_000,
  );
});
