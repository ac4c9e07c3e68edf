/** Deaths half-way: nothing is lost and nothing is left. */
import { describe, expect } from "bun:test";
import { join } from "node:path";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { ask, run, testWith } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";
import { linkNames, pings, podLinks, reserved } from "./node.ts";
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

/**
 * Every kind of system call by which a call changes something, but for opening files: each file that is made is next
 * written to or locked. The other spellings are other architectures'.
 */
const CHANGING = [
  "sendto",
  "write",
  "?mkdir,?mkdirat",
  "?rename,?renameat,?renameat2",
  "?unlink,?unlinkat,?rmdir",
  "utimensat",
  "ftruncate",
  "setns",
  "flock",
];

describe("killed before any of its system calls", () => {
  const withStrace = testWith(["root", "ip", "nft", "ping", "strace"]);

  /** Kills the call before the n-th system call of a kind. False when it does not come to that. */
  function dies(
    kind: string,
    nth: number,
    node: NetworkNamespace,
    command: string,
    conf: Configuration,
    pod: Attachment,
  ): boolean {
    const tracer = ["strace", "-f", "-o", "/dev/null", "-e", `trace=${kind}`];
    const { exitCode, stdout } = run(
      node,
      [...tracer, "-e", `inject=${kind}:signal=KILL:when=${nth}`, join(pluginDirectory(), "wayout")],
      JSON.stringify(conf),
      environmentOf(command, pod),
    );
    if (exitCode > 0) throw new Error(`before ${kind} ${nth}: ${stdout}`);
    return exitCode !== 0;
  }

  /** Kills at every point in turn. Returns at how many. */
  function everywhere(attempt: (kind: string, nth: number) => boolean): number {
    let points = 0;
    for (const kind of CHANGING) for (let nth = 1; attempt(kind, nth); nth++) points++;
    return points;
  }

  function expectNothingOf(node: NetworkNamespace, pod: NetworkNamespace, conf: Configuration): void {
    expect(podLinks(node)).toEqual([]);
    expect(linkNames(pod)).toEqual(["lo"]);
    expect(reserved(conf)).toEqual([]);
    expect(ask(node, ["nft", "list", "ruleset"])).toBe("");
  }

  withStrace(
    "ADD: DEL cleans up, with a namespace or without, and so does GC; the next ADD works",
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
      let turn = 0;
      const points = everywhere((kind, nth) => {
        const died = dies(kind, nth, node, "ADD", conf, pod);
        must(cleanUps[turn++ % cleanUps.length]!());
        expectNothingOf(node, pod.namespace, conf);
        // Also where the very first pod of a network dies.
        if (turn % 2 === 0) run(node, ["ip", "link", "delete", "cni0"]);
        return died;
      });
      expect(points).toBeGreaterThan(20);
      const result = must(call(node, "ADD", conf, pod));
      must(call(node, "CHECK", { ...conf, prevResult: result }, pod));
      expect(pings(pod.namespace, "10.42.0.1")).toBe(true);
    },
    180_000,
  );

  withStrace(
    "DEL: the next DEL finishes it, or GC does; who is attached besides is not hurt",
    () => {
      const node = freshNamespace("node");
      const [pod, other] = [freshPod("victim"), freshPod("other")];
      const conf = bridgeNetwork({ macspoofchk: true });
      const kept = must(call(node, "ADD", conf, other));
      const valid = [{ containerID: "other", ifname: "eth0" }];
      let turn = 0;
      const points = everywhere((kind, nth) => {
        must(call(node, "ADD", conf, pod));
        const died = dies(kind, nth, node, "DEL", conf, pod);
        if (turn++ % 2 === 0) must(call(node, "DEL", conf, pod));
        else must(call(node, "GC", { ...conf, "cni.dev/valid-attachments": valid }));
        expect(podLinks(node)).toEqual([kept.interfaces![1]!.name]);
        expect(linkNames(pod.namespace)).toEqual(["lo"]);
        expect(reserved(conf)).toEqual(["10.42.0.2"]);
        return died;
      });
      expect(points).toBeGreaterThan(8);
      must(call(node, "CHECK", { ...conf, prevResult: kept }, other));
      must(call(node, "DEL", conf, other));
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
      const points = everywhere((kind, nth) => {
        must(call(node, "ADD", conf, pod));
        const died = dies(kind, nth, node, "GC", gc, pod);
        must(call(node, "GC", gc));
        expect(podLinks(node)).toEqual([kept.interfaces![1]!.name]);
        expect(reserved(conf)).toEqual(["10.42.0.2"]);
        return died;
      });
      expect(points).toBeGreaterThan(4);
      must(call(node, "CHECK", { ...conf, prevResult: kept }, other));
    },
    180_000,
  );
});
