/** Environment, input, versions and errors: the protocol itself, against the real program. */
import { describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { appendResult, readResult, resultJson, type Result } from "../../src/cni/result.ts";
import { CNI_VERSIONS } from "../../src/cni/version.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, run, testWith } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";
import {
  bridgeNetwork,
  call,
  environmentOf,
  freshPod,
  must,
  pluginProgram,
  rawCall,
  type CniJson,
  type Configuration,
} from "./plugin.ts";

const withPrograms = testWith(["root", "ip", "nft"]);
describe("the environment", () => {
  const ADD = { CNI_COMMAND: "ADD", CNI_CONTAINERID: "c1", CNI_IFNAME: "eth0", CNI_NETNS: "/run/netns/x" };
  const cases: readonly (readonly [string, Readonly<Record<string, string>>, number, RegExp])[] = [
    [
      "everything missing is named together",
      { CNI_COMMAND: "ADD" },
      4,
      /CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME missing/,
    ],
    ["DEL needs no namespace", { CNI_COMMAND: "DEL" }, 4, /CNI_CONTAINERID, CNI_IFNAME missing/],
    ["an unknown command", { ...ADD, CNI_COMMAND: "GET" }, 4, /CNI_COMMAND is "GET"/],
    [
      "a container id that leads elsewhere",
      { ...ADD, CNI_CONTAINERID: "../../etc" },
      4,
      /CNI_CONTAINERID "..\/..\/etc"/,
    ],
    ["an interface name with a slash", { ...ADD, CNI_IFNAME: "a/b" }, 4, /CNI_IFNAME "a\/b"/],
    ["an interface name of 16 bytes", { ...ADD, CNI_IFNAME: "a123456789012345" }, 4, /1 to 15 bytes/],
    ["an interface that the kernel would number", { ...ADD, CNI_IFNAME: "eth%d" }, 4, /CNI_IFNAME "eth%d"/],
    ["an interface called ..", { ...ADD, CNI_IFNAME: ".." }, 4, /CNI_IFNAME ".."/],
    ["two at once", { ...ADD, CNI_IFNAME: "a b", CNI_CONTAINERID: "-x" }, 4, /CNI_CONTAINERID.*; CNI_IFNAME/],
    ["arguments nobody knows", { ...ADD, CNI_ARGS: "FOO=1;IP=10.42.0.5" }, 4, /"FOO=1"/],
  ];
  for (const [name, environment, code, message] of cases) {
    withPrograms(name, () => {
      const answer = rawCall(freshNamespace("node"), "wayout", JSON.stringify(bridgeNetwork()), environment);
      expect(answer.json?.msg).toMatch(message);
      expect(answer.json?.code).toBe(code);
      expect(answer.exitCode).toBe(1);
    });
  }

  withPrograms("without a command it says what it is, on stderr", () => {
    const ran = run(undefined, [pluginProgram()], "", { CNI_COMMAND: "" });
    expect(ran).toMatchObject({ exitCode: 0, stdout: "" });
    expect(ran.stderr).toStartWith("CNI plugin wayout ");
  });
});

describe("the input", () => {
  const cases: readonly (readonly [string, string, number, RegExp])[] = [
    ["nothing", "", 6, /there is none/],
    ["no JSON", "{", 6, /reading the network configuration from standard input/],
    ["no object", "[]", 7, /must be an object/],
    [
      "a version from the future",
      '{"cniVersion":"2.0.0","name":"a"}',
      1,
      /cniVersion is 2.0.0; this plugin speaks 0.1.0/,
    ],
    ["no name", '{"cniVersion":"1.0.0"}', 7, /name is missing/],
    ["a name that leads elsewhere", '{"cniVersion":"1.0.0","name":"../x"}', 7, /name "..\/x"/],
  ];
  for (const [name, input, code, message] of cases) {
    withPrograms(name, () => {
      const environment = environmentOf("ADD", { container: "c1", netns: "/run/netns/x" });
      const answer = rawCall(freshNamespace("node"), "wayout", input, environment);
      expect(answer.json?.msg).toMatch(message);
      expect(answer.json?.code).toBe(code);
    });
  }
});

describe("namespaces", () => {
  withPrograms("one that is not there, one that is no namespace, and the node's own", () => {
    const node = freshNamespace("node");
    const conf = bridgeNetwork();
    for (const netns of ["/run/netns/gone", "/etc/passwd", `/run/netns/${node.name}`]) {
      const answer = call(node, "ADD", conf, { container: "c1", netns });
      expect(answer.json?.code).toBe(8);
    }
    // A DEL frees what is its own, wherever the path leads by now.
    must(call(node, "DEL", conf, { container: "c1", netns: `/run/netns/${node.name}` }));
    must(call(node, "DEL", conf, { container: "c1", netns: "/run/netns/gone" }));
  });
});

describe("versions", () => {
  withPrograms("VERSION lists all of them and answers in the caller's", () => {
    const answer = rawCall(freshNamespace("node"), "wayout", '{"cniVersion":"0.4.0"}', {
      CNI_COMMAND: "VERSION",
    });
    expect(answer.json).toEqual({ cniVersion: "0.4.0", supportedVersions: [...CNI_VERSIONS] });
  });

  withPrograms("a command from a later version than the configuration's", () => {
    const node = freshNamespace("node");
    expect(call(node, "CHECK", bridgeNetwork({ cniVersion: "0.3.1" }), freshPod()).json?.code).toBe(1);
    expect(call(node, "GC", bridgeNetwork({ cniVersion: "1.0.0" })).json?.code).toBe(1);
    expect(call(node, "STATUS", bridgeNetwork({ cniVersion: "1.0.0" })).json?.code).toBe(1);
  });

  for (const cniVersion of CNI_VERSIONS) {
    withPrograms(`ADD answers in ${cniVersion}`, () => {
      const node = freshNamespace("node");
      const ipam = {
        type: "host-local",
        ranges: [[{ subnet: "10.42.0.0/24" }], [{ subnet: "fd00:42::/64" }]],
      };
      const conf = bridgeNetwork({ cniVersion, ipam });
      const pod = freshPod();
      const result = must(call(node, "ADD", conf, pod));
      expect(result.cniVersion).toBe(cniVersion);
      if (cniVersion < "0.3.0") {
        expect(result).toEqual({
          cniVersion,
          ip4: { ip: "10.42.0.2/24", gateway: "10.42.0.1", routes: [{ dst: "0.0.0.0/0", gw: "10.42.0.1" }] },
          ip6: { ip: "fd00:42::2/64", gateway: "fd00:42::1", routes: [{ dst: "::/0", gw: "fd00:42::1" }] },
          dns: {},
        });
      } else {
        const version = cniVersion < "1.0.0" ? { version: "4" } : {};
        expect(result.ips?.[0]).toEqual({
          ...version,
          interface: 2,
          address: "10.42.0.2/24",
          gateway: "10.42.0.1",
        });
        expect(result.interfaces?.[2]).toMatchObject({ name: "eth0", sandbox: pod.netns! });
        expect(result.interfaces?.[2]?.mtu).toBe(cniVersion === "1.1.0" ? 1500 : undefined);
      }
      if (cniVersion >= "0.4.0") must(call(node, "CHECK", { ...conf, prevResult: result }, pod));
      must(call(node, "DEL", { ...conf, prevResult: result }, pod));
    });
  }

  test("a result read in any version is the result written", () => {
    const result: Result = {
      interfaces: [{ name: "eth0", mac: "02:00:00:00:00:01", sandbox: "/run/netns/x" }],
      ips: [{ interface: 0, address: "10.1.0.2/24", gateway: "10.1.0.1" }],
      routes: [{ dst: "0.0.0.0/0", gw: "10.1.0.1" }],
      dns: { nameservers: ["192.0.2.1"], search: ["example"] },
    };
    for (const version of CNI_VERSIONS) {
      const read = readResult(JSON.parse(JSON.stringify(resultJson(result, version))), "prevResult", "1.1.0");
      const lost = version < "0.3.0";
      expect(read).toEqual(
        lost ? { ...result, interfaces: [], ips: [{ address: "10.1.0.2/24", gateway: "10.1.0.1" }] } : result,
      );
    }
    expect(() => readResult({ cniVersion: "3.0.0" }, "prevResult", "1.1.0")).toThrow(
      "it is of version 3.0.0",
    );
    expect(appendResult(result, result).ips[1]!.interface).toBe(1);
  });
});

withPrograms("with IgnoreUnknown whatever else CNI_ARGS holds is no error; without it, it is named", () => {
  const node = freshNamespace("node");
  const conf = bridgeNetwork();
  for (const lenient of ["1", "true", "True"]) {
    const pod = { ...freshPod(), args: `garbage;;=x;K8S_POD_UID=a=b;IP=;MAC=;IgnoreUnknown=${lenient};` };
    must(call(node, "ADD", conf, pod));
    must(call(node, "DEL", conf, pod));
  }
  const strict = call(node, "ADD", conf, { ...freshPod(), args: "IgnoreUnknown=0;K8S_POD_NAME=web" });
  expect(strict.json).toMatchObject({ code: 4, msg: expect.stringContaining("K8S_POD_NAME=web") });
});

withPrograms("CNI_ARGS of a kubelet are let pass; a requested address and MAC are heard", () => {
  const node = freshNamespace("node");
  const args =
    "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_UID=a=b;IP=10.42.0.99;MAC=02:00:00:00:00:aa";
  const pod = freshPod();
  const result = must(call(node, "ADD", bridgeNetwork(), { ...pod, args }));
  expect(result.ips?.[0]?.address).toBe("10.42.0.99/24");
  expect(result.interfaces?.[2]?.mac).toBe("02:00:00:00:00:aa");
  expect(ask(pod.namespace, ["ip", "link", "show", "eth0"])).toContain("02:00:00:00:00:aa");
  using inside = NetworkNamespace.open(pod.netns!);
  expect(inside.inode).toBe(pod.namespace.inode);
});

testWith(["root", "ip", "nft", "strace"])("a call opens nothing of the command line, and no package", () => {
  const node = freshNamespace("node");
  const directory = mkdtempSync(join(tmpdir(), "wayout-opened-"));
  afterThisTest(() => rmSync(directory, { recursive: true }));
  const root = join(import.meta.dir, "..", "..");
  const trace = join(directory, "trace");
  const conf = bridgeNetwork({ macspoofchk: true });
  const pod = freshPod();
  const opened = (command: string, more: Configuration = {}): string[] => {
    const tracer = ["strace", "-f", "-e", "trace=?open,openat", "-o", trace];
    const program = [process.execPath, join(root, "src", "main.ts")];
    const input = JSON.stringify({ ...conf, ...more });
    const ran = run(node, [...tracer, ...program], input, environmentOf(command, pod));
    expect(ran).toMatchObject({ exitCode: 0, stderr: "" });
    if (command === "ADD") result = JSON.parse(ran.stdout) as CniJson;
    const paths = readFileSync(trace, "utf8").matchAll(/"([^"]+\.[jt]s)"/g);
    return [...new Set([...paths].map(([, path]) => relative(root, path!)))];
  };
  let result: CniJson = {};
  for (const [command, more] of [
    ["VERSION", () => ({})],
    ["ADD", () => ({})],
    ["CHECK", () => ({ prevResult: result })],
    ["STATUS", () => ({})],
    ["GC", () => ({ "cni.dev/valid-attachments": [] })],
    ["DEL", () => ({})],
  ] as const) {
    const files = opened(command, more());
    expect(files).toContain("src/cni/main.ts");
    expect(
      files.filter((path) => /^src\/(cli|lab|doctor|trace|snapshot|attachment)\/|node_modules/.test(path)),
    ).toEqual([]);
  }
});
