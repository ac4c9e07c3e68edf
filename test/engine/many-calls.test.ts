/** One call after the other where little is allowed: none fails, and what a node holds does not grow with their number. */
import { expect } from "bun:test";
import { readdirSync } from "node:fs";
import { bridgeNetwork, environmentOf, freshPod, pluginFile } from "../cni/plugin.ts";
import { podLinks, reserved } from "../cni/node.ts";
import { run, testWith } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";

const withPrograms = testWith(["root", "ip", "nft"]);
/** `npm run test:engine` asks for ten thousand. */
const CALLS = Number(process.env["WAYOUT_CALLS"] ?? 40);
/**
 * Of address space, and of private memory that may be written to: the second is what the kernel counts where it promises no
 * more than it has (vm.overcommit_memory 2), which cannot be set for one test alone. Kilobytes.
 */
const LIMITS = "ulimit -v 65536; ulimit -d 32768";

withPrograms(
  "call after call in 64 MB of address space and 32 MB of memory: none fails, nothing grows",
  () => {
    const node = freshNamespace("node");
    const conf = bridgeNetwork();
    const stays = freshPod("stays");
    const pod = freshPod("comes-and-goes");
    // A program with sanitizers, and the large one, have more address space than any limit has.
    const limits = process.env["WAYOUT_PLUGIN"] === undefined ? LIMITS : ":";
    const call = (command: string, attached = pod): void => {
      const limited = ["bash", "-c", `${limits}; exec "$0"`, pluginFile()];
      const { exitCode, stdout, stderr } = run(
        node,
        limited,
        JSON.stringify(conf),
        environmentOf(command, attached),
      );
      expect([command, exitCode, stderr, exitCode === 0 ? "" : stdout]).toEqual([command, 0, "", ""]);
    };
    const held = (): number =>
      ["/run/wayout", "/var/lib/cni"]
        .map((directory) => readdirSync(directory, { recursive: true }).length)
        .reduce((sum, count) => sum + count);
    call("ADD", stays);
    for (const command of ["ADD", "STATUS", "DEL"]) call(command);
    const before = held();
    for (let round = 0; round < CALLS / 4; round++) {
      for (const command of ["ADD", "STATUS", "VERSION", "DEL"]) call(command);
    }
    // Of so many addresses at most that were given back it is noted that their connections are still there (32).
    expect(held()).toBeLessThan(before + 32);
    call("DEL", stays);
    expect([podLinks(node), reserved(conf)]).toEqual([[], []]);
  },
  60_000 + CALLS * 2_000,
);
