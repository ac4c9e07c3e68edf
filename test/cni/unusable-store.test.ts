/** STATUS and ADD agree about places in which nothing can be made; what either prints shows every character. */
import { expect } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterThisTest } from "../support/teardown.ts";
import { ask, run, testWith } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";
import { reserved } from "./node.ts";
import { bridgeNetwork, call, environmentOf, freshPod, must, networkName, pluginFile } from "./plugin.ts";

const withPrograms = testWith(["root", "ip", "nft", "unshare", "mount"]);

function tmpfs(options: string): string {
  const directory = mkdtempSync(join(tmpdir(), "store-"));
  ask(undefined, ["mount", "-t", "tmpfs", "-o", options, "tmpfs", directory]);
  afterThisTest(() => {
    ask(undefined, ["umount", directory]);
    rmSync(directory, { recursive: true });
  });
  return directory;
}

/** By what is wrong with it: makes the dataDir, and says what is told. */
const STORES: Readonly<Record<string, (network: string) => readonly [string, RegExp]>> = {
  "a file in the network's place": (network) => {
    const directory = tmpfs("size=1m");
    writeFileSync(join(directory, network), "");
    return [directory, new RegExp(`${network} is a file, not a directory`)];
  },
  "a FIFO above it": () => {
    const directory = tmpfs("size=1m");
    ask(undefined, ["mkfifo", join(directory, "made")]);
    return [join(directory, "made"), /made is a FIFO, not a directory/];
  },
  "a link to nowhere": (network) => {
    const directory = tmpfs("size=1m");
    symlinkSync("/nowhere/at/all", join(directory, network));
    return [directory, /is a symbolic link to nowhere, not a directory/];
  },
  "a directory in the place of the lock": (network) => {
    const directory = tmpfs("size=1m");
    mkdirSync(join(directory, network, "lock"), { recursive: true });
    return [directory, /lock is a directory, not a file/];
  },
  "a link in the place of the lock": (network) => {
    const directory = tmpfs("size=1m");
    mkdirSync(join(directory, network));
    symlinkSync("/etc/hostname", join(directory, network, "lock"));
    return [directory, /lock is a symbolic link, not a file/];
  },
  "a file system of the kernel's": () => ["/proc", /EPERM|ENOENT/],
  "no file left": () => {
    const directory = tmpfs("size=1m,nr_inodes=3");
    for (const name of ["a", "b"]) writeFileSync(join(directory, name), "");
    return [directory, /ENOSPC/];
  },
  "no block left": () => {
    const directory = tmpfs("size=64k");
    run(undefined, ["sh", "-c", `cat /dev/zero > ${directory}/filler`]);
    return [directory, /ENOSPC/];
  },
  "no room for the name": () => [`/${"d".repeat(256)}`, /ENAMETOOLONG/],
};

for (const [kind, make] of Object.entries(STORES)) {
  withPrograms(`a dataDir with ${kind}: STATUS says what ADD says`, () => {
    const node = freshNamespace("node");
    const name = networkName();
    const [dataDir, told] = make(name);
    const conf = bridgeNetwork({ name, ipam: { type: "host-local", subnet: "10.42.0.0/24", dataDir } });
    const [status, add] = [call(node, "STATUS", conf), call(node, "ADD", conf, freshPod())];
    expect([status.json?.code, status.json?.msg]).toEqual([50, expect.stringMatching(told)]);
    expect([add.json?.code, add.json?.msg]).toEqual([5, expect.stringMatching(told)]);
  });
}

withPrograms("a /run without a block left: an ADD needs no more than names there, and STATUS says so", () => {
  const node = freshNamespace("node");
  const conf = bridgeNetwork();
  const pod = freshPod();
  const crowded = (command: string) => {
    const world = `mount -t tmpfs -o size=64k,mode=755 t /run/wayout; cat /dev/zero >/run/wayout/filler 2>/dev/null; exec ${pluginFile()}`;
    return run(node, ["unshare", "-m", "sh", "-c", world], JSON.stringify(conf), environmentOf(command, pod));
  };
  ask(undefined, ["mkdir", "-p", "/run/wayout"]);
  expect(crowded("STATUS")).toMatchObject({ exitCode: 0, stdout: "" });
  expect(crowded("ADD")).toMatchObject({ exitCode: 0 });
  expect(crowded("DEL")).toMatchObject({ exitCode: 0, stdout: "" });
  expect(reserved(conf)).toEqual([]);
});

withPrograms("a result shows each character of a name as it is in JSON, and none as it would act", () => {
  const node = freshNamespace("node");
  for (const interfaceName of ["e\u202et", "a\u009bb", "d\u007f\x1b[2J"]) {
    const conf = bridgeNetwork({ cniVersion: "1.0.0" });
    const pod = { ...freshPod(), interfaceName };
    const added = call(node, "ADD", conf, pod);
    must(added);
    // oxlint-disable-next-line no-control-regex
    expect([interfaceName, /^[\n\x20-\x7e]*$/.test(added.stdout)]).toEqual([interfaceName, true]);
    const names = (added.json as { interfaces: { name: string }[] }).interfaces.map(({ name }) => name);
    expect(names).toContain(interfaceName);
    const wrong = call(node, "CHECK", { ...conf, prevResult: { ...added.json, ips: [] } }, pod);
    // oxlint-disable-next-line no-control-regex
    expect([interfaceName, /^[\n\x20-\x7e]*$/.test(wrong.stdout)]).toEqual([interfaceName, true]);
    must(call(node, "DEL", conf, pod));
  }
});
