/** Results that cannot be told, and results that say nothing: the first undo what they would have told, the second are refused. */
import { expect } from "bun:test";
import { join } from "node:path";
import { assert, constant, constantFrom, jsonValue, oneof, property, record } from "fast-check";
import { run, testWith } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";
import { linkNames, podLinks, reserved } from "./node.ts";
import {
  bridgeNetwork,
  call,
  environmentOf,
  freshPod,
  must,
  pluginDirectory,
  type CniJson,
} from "./plugin.ts";

const withPrograms = testWith(["root", "ip", "nft"]);

withPrograms("an ADD whose result nobody can be told takes everything back", () => {
  const node = freshNamespace("node");
  const conf = bridgeNetwork();
  must(call(node, "ADD", conf, freshPod("served")));
  const before = reserved(conf);
  // A full disk, a pipe that nobody reads any more, and none at all.
  for (const [output, cause] of [
    [`exec "$0" > /dev/full`, "ENOSPC"],
    [`set -o pipefail; { sleep 0.2; exec "$0"; } | true`, "EPIPE"],
    [`exec "$0" >&-`, "EBADF"],
  ] as const) {
    const pod = freshPod("unheard");
    const program = join(pluginDirectory(), "wayout");
    const ran = run(node, ["bash", "-c", output, program], JSON.stringify(conf), environmentOf("ADD", pod));
    expect([output, ran.exitCode]).toEqual([output, 1]);
    expect(ran.stderr).toContain(cause);
    expect([podLinks(node).length, linkNames(pod.namespace), reserved(conf)]).toEqual([1, ["lo"], before]);
    must(call(node, "ADD", conf, pod));
    must(call(node, "DEL", conf, pod));
  }
});

withPrograms("standard input or error that is closed is nobody's file", () => {
  const node = freshNamespace("node");
  const conf = bridgeNetwork();
  const pod = freshPod();
  const program = join(pluginDirectory(), "wayout");
  const add = (redirection: string): CniJson => {
    const argv = ["bash", "-c", `exec "$0" ${redirection}`, program];
    return JSON.parse(run(node, argv, JSON.stringify(conf), environmentOf("ADD", pod)).stdout) as CniJson;
  };
  expect(add("<&-")).toMatchObject({ code: 6 });
  expect(add("2>&-").ips).toHaveLength(1);
  must(call(node, "DEL", conf, pod));
});

withPrograms("CHECK is refused with a result that does not speak of the attachment", () => {
  const node = freshNamespace("node");
  const conf = bridgeNetwork();
  const pod = freshPod();
  const result = must(call(node, "ADD", conf, pod));
  const asked = (prevResult: unknown): CniJson | undefined =>
    call(node, "CHECK", { ...conf, prevResult }, pod).json;
  expect(asked(result)).toBeUndefined();
  const [bridge, host, own] = result.interfaces!;
  const [ip] = result.ips!;
  for (const wrong of [
    {},
    { cniVersion: "1.1.0" },
    null,
    [],
    "result",
    { ...result, interfaces: undefined },
    { ...result, interfaces: [] },
    { ...result, interfaces: [bridge, host] },
    { ...result, interfaces: [bridge, host, { ...own, sandbox: "/run/netns/another" }] },
    { ...result, interfaces: [bridge, host, { ...own, name: "eth7" }] },
    { ...result, interfaces: "eth0" },
    { ...result, interfaces: [7] },
    { ...result, ips: undefined },
    { ...result, ips: [] },
    { ...result, ips: [{ ...ip, interface: 0 }] },
    { ...result, ips: [{ ...ip, interface: 9 }] },
    { ...result, ips: [{ ...ip, interface: -1 }] },
    { ...result, ips: [{ ...ip, interface: "2" }] },
    { ...result, ips: [{ ...ip, address: 7 }] },
    { ...result, ips: {} },
    { ...result, routes: "default" },
    { ...result, dns: "10.0.0.1" },
  ]) {
    expect([wrong, asked(wrong)?.code]).toEqual([wrong, 7]);
  }
  expect(asked({ ...result, cniVersion: "9.0.0" })?.code).toBe(1);
  must(call(node, "DEL", conf, pod));
});

/** Keys of a configuration, and values that none of them has. */
const KEYS =
  "bridge mtu vlan vlanTrunk ipMasq isGateway hairpinMode dns ipam snat portRange runtimeConfig args masquerade " +
  "nonMasqueradeCIDRs ipMasqBackend prevResult capabilities name cniVersion macspoofchk cni.dev/valid-attachments";
const anything = oneof(jsonValue({ maxDepth: 2 }), constant("\u202e\n"), constant(1e308));
const hostile = record(Object.fromEntries(KEYS.split(" ").map((key) => [key, anything])), {
  requiredKeys: [],
});

withPrograms(
  "whatever a configuration holds, the answer is JSON of the protocol, and nothing is left",
  () => {
    const node = freshNamespace("node");
    const pod = freshPod();
    const commands = constantFrom("ADD", "CHECK", "DEL", "GC", "STATUS");
    const answered = property(commands, hostile, (command, keys) => {
      // Whatever names a network or a bridge must be refused, or be this test's own.
      const conf = { ...bridgeNetwork({ bridge: "cni0" }), ...keys };
      const { exitCode, json, stderr } = call(node, command, { ...conf, type: "wayout" }, pod);
      expect(stderr).toBe("");
      if (exitCode !== 0) {
        const { cniVersion, msg, code } = json!;
        expect([typeof cniVersion, typeof msg, typeof code]).toEqual(["string", "string", "number"]);
        // The code of a mistake of ours.
        expect([msg, code]).not.toEqual([msg, 999]);
      } else if (command === "ADD") must(call(node, "DEL", { ...conf, type: "wayout" }, pod));
    });
    assert(answered, { numRuns: 60, endOnFailure: true, includeErrorInReport: true });
    expect([podLinks(node), linkNames(pod.namespace)]).toEqual([[], ["lo"]]);
  },
);
