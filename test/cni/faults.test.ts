/** A fault at every exchange with the kernel in turn: ADD succeeds whole, or fails and leaves nothing. */
import { expect } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterThisTest } from "../support/teardown.ts";
import { run, testWith } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";
import { linkNames, pings, reservations, stateOf } from "./node.ts";
import {
  bridgeNetwork,
  call,
  environmentOf,
  freshPod,
  must,
  pluginDirectory,
  type CniJson,
} from "./plugin.ts";

const withStrace = testWith(["root", "ip", "nft", "ping", "sysctl", "strace"]);

/** Kinds of system calls, how they fail, and how many of them, at the end, only hand over the answer. */
const FAULTS: readonly (readonly [string, string, number?])[] = [
  // What was sent did not arrive; it arrived, and the answer was lost.
  ["sendto", "ENOBUFS"],
  ["recvfrom", "ENOBUFS"],
  ["socket", "EMFILE"],
  ["setns", "EPERM"],
  ["flock", "ENOLCK"],
  ["?mkdir,?mkdirat", "ENOSPC"],
  ["write", "ENOSPC", 1],
  ["utimensat", "EIO"],
];

/** A node and a pod, and what is there before the call. */
class Scene {
  readonly node = freshNamespace("node");
  readonly pod = freshPod("one");
  readonly conf = bridgeNetwork({ macspoofchk: true });
  readonly #trace: string;

  constructor(readonly isFirst: boolean) {
    const directory = mkdtempSync(join(tmpdir(), "wayout-faults-"));
    afterThisTest(() => rmSync(directory, { recursive: true }));
    this.#trace = join(directory, "trace");
    if (!isFirst) must(call(this.node, "ADD", this.conf, freshPod("served")));
  }

  add(kind: string, ...inject: readonly string[]): { readonly exitCode: number; readonly json: CniJson } {
    const { exitCode, stdout } = run(
      this.node,
      [
        "strace",
        "-f",
        "-o",
        this.#trace,
        "-e",
        `trace=${kind}`,
        ...inject,
        join(pluginDirectory(), "wayout"),
      ],
      JSON.stringify(this.conf),
      environmentOf("ADD", this.pod),
    );
    return { exitCode, json: JSON.parse(stdout) as CniJson };
  }

  /** How many such calls the busiest thread of an ADD makes: faults are counted by thread. */
  count(kind: string): number {
    must({ ...this.add(kind), stdout: "", stderr: "" });
    const threads = new Map<string, number>();
    for (const line of readFileSync(this.#trace, "utf8").split("\n")) {
      const [, thread] = /^(\d+) +\w+\(/.exec(line) ?? [];
      if (thread !== undefined) threads.set(thread, (threads.get(thread) ?? 0) + 1);
    }
    this.remove();
    return Math.max(0, ...threads.values());
  }

  remove(): void {
    must(call(this.node, "DEL", this.conf, this.pod));
    // The bridge, and forwarding, are the network's and stay.
    if (this.isFirst) run(this.node, ["sh", "-c", "ip link delete cni0; sysctl -q net.ipv4.ip_forward=0"]);
  }

  state(): object {
    const { node, pod, conf } = this;
    return { node: stateOf(node), pod: stateOf(pod.namespace), files: reservations(conf) };
  }
}

for (const [isFirst, faults] of [
  [true, FAULTS],
  [false, FAULTS.slice(0, 2)],
] as const) {
  for (const [kind, error, answers = 0] of faults) {
    const whose = isFirst ? "the first pod's" : "another pod's";
    withStrace(
      `${whose} ADD, ${error} from each ${kind.split(",")[0]!.replace("?", "")}`,
      () => {
        const scene = new Scene(isFirst);
        const count = scene.count(kind) - answers;
        const before = scene.state();
        expect(count).toBeGreaterThan(0);
        for (let nth = 1; nth <= count; nth++) {
          const { exitCode, json } = scene.add(kind, "-e", `inject=${kind}:error=${error}:when=${nth}`);
          if (exitCode === 0) {
            must(call(scene.node, "CHECK", { ...scene.conf, prevResult: json }, scene.pod));
            expect(pings(scene.pod.namespace, "10.42.0.1")).toBe(true);
          } else {
            const failure = { nth, exitCode, code: json.code, msg: json.msg };
            expect(failure).toMatchObject({ exitCode: 1, code: expect.any(Number), msg: expect.any(String) });
            expect({ failure, state: scene.state() }).toEqual({ failure, state: before });
          }
          scene.remove();
          expect(linkNames(scene.pod.namespace)).toEqual(["lo"]);
          expect(reservations(scene.conf)).toEqual((before as { files: object }).files);
        }
      },
      180_000,
    );
  }
}
