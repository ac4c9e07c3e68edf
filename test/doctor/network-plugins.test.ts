/** The doctor looks at the programs that container runtimes execute for each pod: by the built program, on real files. */
import { expect, test } from "bun:test";
import {
  appendFileSync,
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Finding } from "../../src/doctor/finding.ts";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { programFault } from "../../src/linux/program-file.ts";
import { pluginProgram, REFERENCE_DIRECTORY } from "../cni/plugin.ts";
import { afterThisTest } from "../support/teardown.ts";
import { run, testWith, type Ran } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";

const withPrograms = testWith(["root", "ip", "nft", "musl-gcc"]);
const CONTAINERD = "/etc/containerd/config.toml";
const E_MACHINE = 18;

/** A node with containerd's configuration, whose directories are our own. */
class Node {
  readonly namespace: NetworkNamespace = freshNamespace("node");
  readonly directory = mkdtempSync(join(tmpdir(), "wayout-plugins-"));
  readonly bin = join(this.directory, "bin");
  readonly conf = join(this.directory, "net.d");

  constructor(extra = "") {
    for (const directory of [this.bin, this.conf]) mkdirSync(directory);
    this.configure(
      CONTAINERD,
      `version = 2\n${extra}\n[plugins."io.containerd.grpc.v1.cri".cni]\nbin_dir = "${this.bin}"\nconf_dir = "${this.conf}"\n`,
    );
    afterThisTest(() => rmSync(this.directory, { recursive: true, force: true }));
  }

  configure(path: string, text: string): void {
    mkdirSync(join(path, ".."), { recursive: true });
    writeFileSync(path, text);
    afterThisTest(() => rmSync(path, { force: true }));
  }

  network(name: string, ...plugins: object[]): void {
    writeFileSync(join(this.conf, name), JSON.stringify({ cniVersion: "1.0.0", name: "n", plugins }));
  }

  wayout(...args: string[]): Ran {
    return run(this.namespace, [pluginProgram(), ...args]);
  }

  install(): void {
    const directories = ["--bin-dir", this.bin, "--conf-dir", this.conf];
    expect(this.wayout("cni", "install", ...directories, "--subnet", "10.42.0.0/24").exitCode).toBe(0);
  }

  /** What the doctor says of the node, and its exit code. */
  findings(): { readonly exitCode: number | null; readonly node: readonly Finding[] } {
    const { exitCode, stdout } = this.wayout("doctor", "--json");
    return { exitCode, node: (JSON.parse(stdout) as { node: Finding[] }).node };
  }

  /** Carries out the one fix that is told, as a person would who has our program in their PATH. */
  mend([finding]: readonly Finding[]): void {
    const path = join(this.directory, "path");
    mkdirSync(path, { recursive: true });
    rmSync(join(path, "wayout"), { force: true });
    symlinkSync(pluginProgram(), join(path, "wayout"));
    const fix = finding?.fix[0];
    const environment = { PATH: `${path}:${process.env["PATH"]}` };
    expect(run(this.namespace, ["sh", "-c", fix?.command ?? "false"], "", environment).exitCode).toBe(0);
  }
}

function changedAt(path: string, at: number, value?: number): void {
  const bytes = readFileSync(path);
  bytes[at] = value ?? bytes[at]! ^ 0x55;
  writeFileSync(path, bytes);
}

withPrograms("a plugin of ours that no runtime could execute, or that is another, is told and mended", () => {
  const node = new Node();
  node.install();
  const plugin = join(node.bin, "wayout");
  expect(node.findings()).toEqual({ exitCode: 0, node: [] });
  const image = Number(
    readFileSync(plugin).readBigUInt64LE(readFileSync(plugin).indexOf("wayout-engine-1\0") + 48),
  );
  const other = readFileSync(plugin)[E_MACHINE] === 62 ? 183 : 62;
  const damages: readonly (readonly [() => void, string, RegExp])[] = [
    [() => changedAt(plugin, image + 500_001), "plugin-unusable", /its image was changed/],
    [() => changedAt(plugin, image + 60), "plugin-unusable", /its header was changed/],
    [() => changedAt(plugin, 20_000), "plugin-unusable", /./],
    [() => truncateSync(plugin, image + 100_000), "plugin-unusable", /not the length it was made with/],
    [() => truncateSync(plugin, 1000), "plugin-unusable", /it has 1000 bytes, and its header tells of/],
    [() => truncateSync(plugin, 0), "plugin-unusable", /it is empty/],
    [() => writeFileSync(plugin, "no program"), "plugin-unusable", /neither a program/],
    [() => chmodSync(plugin, 0o644), "plugin-unusable", /its mode is 644/],
    [() => changedAt(plugin, E_MACHINE, other), "plugin-unusable", /it is a program for/],
    [
      () => {
        copyFileSync(pluginProgram(), plugin);
        appendFileSync(plugin, "later");
      },
      "plugin-of-another-build",
      /written .*this program is of/,
    ],
    [() => rmSync(plugin), "plugin-missing", /./],
  ];
  for (const [damage, code, said] of damages) {
    damage();
    const { exitCode, node: found } = node.findings();
    const [finding] = found;
    expect([said, found.map((one) => one.code)]).toEqual([said, expect.arrayContaining([code])]);
    expect(finding?.evidence.map(({ value }) => value).join("\n")).toMatch(said);
    expect(exitCode).toBe(code === "plugin-of-another-build" ? 0 : 1);
    const text = node.wayout("doctor").stdout;
    expect(text).toContain(finding!.text);
    expect(text).toContain("wayout cni install");
    // A person installs over what is there, whatever it is.
    node.mend(found);
    expect([said, node.findings()]).toEqual([said, { exitCode: 0, node: [] }]);
  }
});

testWith(["root", "ip"])(
  "another one's plugin that is missing: who needs it, where it was looked for, where it lies",
  () => {
    const node = new Node();
    const ipam = { type: "host-local", subnet: "10.42.0.0/24" };
    node.network("10-other.conflist", { type: "bridge", ipam }, { type: "portmap" });
    // Whatever is no network's first file containerd does not take.
    node.network("20-unused.conflist", { type: "nobodys-plugin" });
    for (const type of ["host-local", "portmap", "loopback"]) copyFileSync("/bin/true", join(node.bin, type));
    const { exitCode, node: found } = node.findings();
    expect(exitCode).toBe(1);
    expect(found.map(({ code, text }) => [code, text])).toEqual([
      [
        "plugin-missing",
        `the plugin bridge, which ${node.conf}/10-other.conflist needs, is not in ${node.bin}`,
      ],
    ]);
    expect(found.flatMap(({ fix }) => fix.map(({ command }): string => command))).toEqual([
      `ln -s ${REFERENCE_DIRECTORY}/bridge ${node.bin}/bridge`,
    ]);
    node.mend(found);
    expect(node.findings()).toEqual({ exitCode: 0, node: [] });

    rmSync(join(node.bin, "host-local"));
    rmSync(join(node.bin, "loopback"));
    expect(node.findings().node.map(({ text }) => text.split(",")[0])).toEqual([
      "the plugin host-local",
      "the plugin loopback",
    ]);
  },
);

testWith(["root", "ip"])("whom no runtime of the node asks for is nobody's trouble", () => {
  const node = new Node('disabled_plugins = ["cri"]');
  node.network("10-n.conflist", { type: "bridge" });
  // containerd is there for somebody else, as docker's is.
  expect(node.findings()).toEqual({ exitCode: 0, node: [] });
  const text = `[crio.network]\nnetwork_dir = "${node.conf}"\nplugin_dirs = ["${node.bin}", "/nowhere"]\n`;
  node.configure("/etc/crio/crio.conf.d/10-network.conf", text);
  expect(node.findings().node.map((one) => one.text)).toEqual([
    `the plugin bridge, which ${node.conf}/10-n.conflist needs, is not in ${node.bin} or /nowhere`,
  ]);
  copyFileSync("/bin/true", join(node.bin, "bridge"));
  expect(node.findings()).toEqual({ exitCode: 0, node: [] });
});

test("what a file's beginning tells of a program", () => {
  const whole = readFileSync(process.execPath);
  const head = whole.subarray(0, 4096);
  const fault = (bytes: Uint8Array, length = whole.length, arch: string = process.arch): string | undefined =>
    programFault(bytes, length, arch)?.fault;
  expect(fault(head)).toBeUndefined();
  expect(fault(head, whole.length, process.arch === "x64" ? "arm64" : "x64")).toBe("another-machine");
  expect(fault(head, whole.length, "s390x")).toBeUndefined();
  expect(fault(head, 100_000)).toBe("damaged");
  for (const length of [0, 1, 3, 4, 20, 51, 63])
    expect(fault(head.subarray(0, length), length)).toBe("damaged");
  expect(fault(Buffer.from("#!/bin/sh\n"), 10)).toBeUndefined();
  expect(fault(Buffer.from("MZ and so on"), 12)).toBe("damaged");
});
