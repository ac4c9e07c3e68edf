/** Something else stands where wayout keeps its locks and notes: every door says what, where, and what to do; DEL ends. */
import { expect } from "bun:test";
import { podLinks, reserved } from "../cni/node.ts";
import {
  bridgeNetwork,
  call,
  environmentOf,
  freshPod,
  must,
  pluginFile,
  type CniJson,
} from "../cni/plugin.ts";
import { WAYOUT } from "../attachment/world.ts";
import { ask, run, testWith } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";

const withPrograms = testWith(["root", "ip", "nft", "unshare", "mount"]);

/** What is made of a /run/wayout of its own, which is only seen by the command. */
const KINDS = {
  "a file, not a directory": (name: string) => `echo >${name}`,
  "a symbolic link to nowhere, not a directory": (name: string) => `ln -s /nowhere ${name}`,
  "a FIFO, not a directory": (name: string) => `mkfifo ${name}`,
} as const;

/** Whatever is in the way is told in the same words, whichever command meets it. */
const COMMANDS = ["list", "attach blue --create", "detach blue", "nat remove", "agent", "lab up"].map(
  (words) => `${WAYOUT} ${words}`,
);

for (const [kind, make] of Object.entries(KINDS)) {
  withPrograms(
    `${kind}, in the place of a folder of ours`,
    () => {
      const node = freshNamespace("node");
      const conf = bridgeNetwork();
      const pod = freshPod();
      must(call(node, "ADD", conf, pod));
      const inPlaceOf = (place: string, command: string, environment: Record<string, string> = {}) => {
        const world = `mount -t tmpfs t /run && mkdir -p $(dirname ${place}) && ${make(place)} && exec ${command}`;
        return run(node, ["unshare", "-m", "bash", "-c", world], JSON.stringify(conf), {
          ...process.env,
          ...environment,
        });
      };
      for (const command of COMMANDS) {
        const { exitCode, stderr } = inPlaceOf("/run/wayout", command);
        expect([command, exitCode, stderr]).toEqual([
          command,
          3,
          expect.stringContaining(`/run/wayout is ${kind}\n  → Move it away`),
        ]);
      }
      const plugin = (name: string, place: string): CniJson => {
        const { stdout } = inPlaceOf(
          place,
          pluginFile(),
          environmentOf(name, { container: "pod2", netns: "/x" }),
        );
        return JSON.parse(stdout === "" ? "{}" : stdout) as CniJson;
      };
      for (const place of ["/run/wayout", "/run/wayout/cni"]) {
        const told = expect.stringContaining(`${place} is ${kind}`);
        expect([place, plugin("STATUS", place)]).toEqual([
          place,
          expect.objectContaining({ code: 50, msg: told }),
        ]);
      }
      // Else the next STATUS would put back what a person took away, and nobody would know why.
      const removed = inPlaceOf("/run/wayout/nat", `${WAYOUT} nat remove --all`);
      expect([removed.exitCode, removed.stderr]).toEqual([
        3,
        expect.stringContaining(`were taken away: /run/wayout/nat is ${kind}`),
      ]);
      // Nobody can hold a lock there: what a pod had is given back all the same.
      const { exitCode, stdout } = inPlaceOf("/run/wayout", pluginFile(), environmentOf("DEL", pod));
      expect([exitCode, stdout]).toEqual([0, ""]);
      expect([podLinks(node), reserved(conf), ask(node, ["nft", "list", "ruleset"])]).toEqual([[], [], ""]);
    },
    120_000,
  );
}
