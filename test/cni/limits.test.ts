/** Calls under limits of memory and of open files: they work, or say in JSON what is the matter, and leave nothing. */
import { expect } from "bun:test";
import { join } from "node:path";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { ask, run, testWith } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";
import { linkNames, podLinks, reserved } from "./node.ts";
import {
  bridgeNetwork,
  call,
  environmentOf,
  freshPod,
  must,
  pluginDirectory,
  pluginProgram,
  type Attachment,
  type CniJson,
  type Configuration,
} from "./plugin.ts";

const withPrograms = testWith(["root", "ip", "nft"]);

function limited(
  limit: string,
  node: NetworkNamespace,
  command: string,
  conf: Configuration,
  pod: Attachment,
): CniJson {
  const { stdout, stderr } = run(
    node,
    ["bash", "-c", `ulimit ${limit}; exec "$0"`, join(pluginDirectory(), "wayout")],
    JSON.stringify(conf),
    environmentOf(command, pod),
  );
  if (stderr !== "") throw new Error(`under ulimit ${limit} it wrote ${stderr}`);
  return stdout === "" ? {} : (JSON.parse(stdout) as CniJson);
}

withPrograms("440 MB of address space are enough", () => {
  const node = freshNamespace("node");
  for (const kilobytes of [440_000, 512_000, 1_000_000]) {
    const conf = bridgeNetwork();
    const pod = freshPod();
    const limit = `-v ${kilobytes}`;
    expect(limited(limit, node, "ADD", conf, pod).ips).toHaveLength(1);
    expect(limited(limit, node, "STATUS", conf, {} as Attachment)).toEqual({});
    expect(limited(limit, node, "DEL", conf, pod)).toEqual({});
    expect([podLinks(node), reserved(conf)]).toEqual([[], []]);
    ask(node, ["ip", "link", "delete", "cni0"]);
  }
});

withPrograms(
  "with less the limit is told as long as the engine starts at all, to a runtime and to a person",
  () => {
    const node = freshNamespace("node");
    const under = (megabytes: number, words: string, environment?: Readonly<Record<string, string>>) =>
      run(
        node,
        ["bash", "-c", `ulimit -v ${megabytes * 1024}; exec ${words}`],
        JSON.stringify(bridgeNetwork()),
        environment ?? process.env,
      );
    const told = { plugin: 0, person: 0 };
    const status = environmentOf("STATUS", {});
    for (let megabytes = 360; megabytes <= 420; megabytes += 2) {
      const plugin = under(megabytes, pluginProgram(), status);
      const person = under(megabytes, `${pluginProgram()} list`);
      // SIGABRT, before a line of ours runs (README.md): the shell's word for it.
      if (plugin.exitCode === 1) {
        const { code, msg, details } = JSON.parse(plugin.stdout) as CniJson;
        expect([code, msg, details]).toEqual([
          100,
          expect.stringContaining(`this process may have ${megabytes} MiB of addresses`),
          expect.stringContaining("ulimit -v"),
        ]);
        told.plugin++;
      } else if (plugin.exitCode !== 0)
        expect([megabytes, plugin.exitCode > 128 || plugin.exitCode < 0]).toEqual([megabytes, true]);
      if (person.exitCode === 3) {
        expect(person.stderr).toContain(`this process may have ${megabytes} MiB of addresses`);
        told.person++;
      }
    }
    expect([told.plugin > 0, told.person > 0]).toEqual([true, true]);
  },
);

withPrograms("too few open files: the cause is told, and nothing is left", () => {
  const node = freshNamespace("node");
  const conf = bridgeNetwork();
  let refused = 0;
  for (let files = 5; files < 40; files++) {
    const pod = freshPod();
    const answer = limited(`-n ${files}`, node, "ADD", conf, pod);
    if (answer.code === undefined) break;
    refused++;
    expect([files, answer.msg]).toEqual([files, expect.stringMatching(/EMFILE/)]);
    expect([files, typeof answer.details]).toEqual([files, "string"]);
    // Without a file to spare not everything can be taken back at once: runtimes call DEL after a failed ADD.
    must(call(node, "DEL", conf, pod));
    expect([podLinks(node), linkNames(pod.namespace), reserved(conf)]).toEqual([[], ["lo"], []]);
  }
  expect(refused).toBeGreaterThan(3);
});
