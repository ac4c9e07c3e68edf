/** `wayout cni install`, `uninstall` and `gc`, by the built program. */
import { expect } from "bun:test";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, run, testWith, type Ran } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";
import {
  bridgeNetwork,
  call,
  Chain,
  environmentOf,
  freshPod,
  must,
  pluginProgram,
  type Configuration,
} from "./plugin.ts";

const withPrograms = testWith(["root", "ip", "nft"]);

/** What `cni install` puts in place, whichever program the plugin's tests execute. */
function installedFile(): string {
  const small = `${pluginProgram()}-cni`;
  return existsSync(small) ? small : pluginProgram();
}

function inDirectory(body: (place: Place) => void): void {
  const directory = mkdtempSync(join(tmpdir(), "wayout-install-"));
  try {
    body(new Place(directory));
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

class Place {
  readonly bin: string;
  readonly conf: string;
  constructor(directory: string) {
    this.bin = join(directory, "opt", "bin");
    this.conf = join(directory, "etc", "net.d");
  }
  wayout(node: NetworkNamespace, ...args: string[]): Ran {
    const [command = "", ...rest] = args;
    return run(node, [
      pluginProgram(),
      "cni",
      command,
      "--bin-dir",
      this.bin,
      "--conf-dir",
      this.conf,
      ...rest,
    ]);
  }
  get conflist(): string {
    return join(this.conf, "10-wayout.conflist");
  }
}

withPrograms("install puts a working plugin and network in place; a second time keeps the network", () => {
  inDirectory((place) => {
    const node = freshNamespace("node");
    const first = place.wayout(
      node,
      "install",
      "--subnet",
      "10.42.0.0/24",
      "--subnet",
      "fd00:42::/64",
      "--json",
    );
    expect(JSON.parse(first.stdout)).toMatchObject({
      size: installedFile() === pluginProgram() ? "large" : "small",
      wroteConflist: true,
      subnets: ["10.42.0.0/24", "fd00:42::/64"],
    });
    expect(statSync(join(place.bin, "wayout")).mode & 0o777).toBe(0o755);
    const conflist = JSON.parse(readFileSync(place.conflist, "utf8")) as {
      plugins: Record<string, unknown>[];
    };
    const conf = { ...conflist.plugins[0]!, name: "wayout", cniVersion: "1.0.0" };
    expect(must(call(node, "ADD", conf, freshPod())).ips).toHaveLength(2);

    writeFileSync(place.conflist, readFileSync(place.conflist, "utf8").replace('"cni0"', '"mine0"'));
    writeFileSync(join(place.conf, "00-other.conflist"), "{}");
    const again = place.wayout(node, "install", "--json");
    expect(JSON.parse(again.stdout)).toMatchObject({
      wroteConflist: false,
      shadowedBy: ["00-other.conflist"],
    });
    expect(readFileSync(place.conflist, "utf8")).toContain("mine0");
    expect(place.wayout(node, "install", "--subnet", "10.99.0.0/24").exitCode).toBe(2);
    must(call(node, "DEL", conf, { container: "pod1" }));
  });
});

const VERSION_OF = (versions: string): string => `#!/bin/sh\necho '{"supportedVersions": ${versions}}'\n`;

withPrograms(
  "loopback is answered where nobody else does; portmap joins the network where it is there",
  () => {
    inDirectory((place) => {
      const node = freshNamespace("node");
      const bare = place.wayout(node, "install", "--subnet", "10.42.0.0/24", "--no-masquerade");
      expect(bare.stdout).toContain("the plugin loopback was missing");
      expect(bare.stdout).toContain("the plugin portmap is not installed");
      expect(readlinkSync(join(place.bin, "loopback"))).toBe("wayout");
      const conflist = (): {
        cniVersion: string;
        cniVersions?: string[];
        plugins: Record<string, unknown>[];
      } => JSON.parse(readFileSync(place.conflist, "utf8")) as never;
      // Old libraries take the first, later ones the best of the second.
      expect(conflist()).toMatchObject({ cniVersion: "1.0.0", cniVersions: ["1.0.0", "1.1.0"] });
      expect(conflist().plugins).toMatchObject([{ type: "wayout", ipMasq: false }]);
      expect(place.wayout(node, "uninstall").stdout).toContain("/loopback is gone");
      expect(existsSync(join(place.bin, "loopback"))).toBe(false);

      for (const [versions, cniVersion, cniVersions] of [
        ['["0.4.0", "1.0.0", "1.1.0"]', "1.0.0", ["1.0.0", "1.1.0"]],
        ['["0.3.1", "0.4.0", "1.0.0"]', "1.0.0", undefined],
        ['["0.3.1", "0.4.0"]', "0.4.0", undefined],
      ] as const) {
        for (const name of ["loopback", "portmap"]) {
          writeFileSync(join(place.bin, name), VERSION_OF(versions), { mode: 0o755 });
        }
        const installed = place.wayout(node, "install", "--subnet", "10.42.0.0/24", "--json");
        expect(JSON.parse(installed.stdout)).toMatchObject({ portmap: true });
        expect(JSON.parse(installed.stdout)).not.toHaveProperty("loopback");
        expect([conflist().cniVersion, conflist().cniVersions]).toEqual([cniVersion, cniVersions as never]);
        expect(conflist().plugins[1]).toMatchObject({
          type: "portmap",
          capabilities: { portMappings: true },
        });
        rmSync(place.conflist);
      }
      writeFileSync(join(place.bin, "portmap"), "#!/bin/sh\nexit 1\n", { mode: 0o755 });
      const refused = place.wayout(node, "install", "--subnet", "10.42.0.0/24", "--json");
      expect(refused.exitCode).toBe(3);
      expect(refused.stdout).toContain("asking");
      expect(readdirSync(place.conf)).toEqual([]);
      place.wayout(node, "uninstall");
      expect(readdirSync(place.bin).sort()).toEqual(["loopback", "portmap"]);
      // Another program's, that no runtime can execute: it is left, and told.
      rmSync(join(place.bin, "portmap"));
      writeFileSync(join(place.bin, "loopback"), "half a program", { mode: 0o644 });
      chmodSync(join(place.bin, "loopback"), 0o644);
      const told = place.wayout(node, "install", "--subnet", "10.42.0.0/24");
      expect(told.stdout).toContain(`${join(place.bin, "loopback")} cannot be executed`);
    });
  },
);

withPrograms("a subnet that collides, and a directory that is a file: nothing is put in place", () => {
  inDirectory((place) => {
    const node = freshNamespace("node");
    ask(node, ["ip", "link", "add", "up0", "type", "bridge"]);
    ask(node, ["ip", "address", "add", "10.42.0.1/16", "dev", "up0"]);
    const refused = place.wayout(node, "install", "--subnet", "10.42.7.0/24", "--json");
    expect(refused.exitCode).toBe(2);
    expect(refused.stdout).toContain("subnet-overlaps-route");
    expect(existsSync(place.bin)).toBe(false);
    mkdirSync(join(place.conf, ".."), { recursive: true });
    writeFileSync(place.conf, "");
    expect(place.wayout(node, "install").exitCode).toBe(3);
    expect(existsSync(join(place.bin, "wayout"))).toBe(false);
  });
});

withPrograms(
  "gc shows, then removes, what pods that are gone left; uninstall refuses while pods are attached",
  () => {
    inDirectory((place) => {
      const node = freshNamespace("node");
      expect(place.wayout(node, "install", "--subnet", "10.42.0.0/24", "--name", "gc-net").exitCode).toBe(0);
      const conflist = JSON.parse(readFileSync(place.conflist, "utf8")) as {
        plugins: Record<string, unknown>[];
      };
      const conf = { ...conflist.plugins[0]!, name: "gc-net", cniVersion: "1.0.0" };
      const pod = freshPod("leaked");
      must(call(node, "ADD", conf, pod));
      const refused = place.wayout(node, "uninstall", "--json");
      expect(refused.exitCode).toBe(1);
      expect(refused.stdout).toContain("pods-attached");

      const fresh = place.wayout(node, "gc", "--dry-run", "--json");
      expect(JSON.parse(fresh.stdout).networks[0]).toMatchObject({
        links: [],
        addresses: [],
        natRules: false,
      });
      // Two minutes later no ADD can be under way any more; and the pod has lost its interface.
      ask(pod.namespace, ["ip", "link", "delete", "eth0"]);
      const old = Date.now() / 1000 - 200;
      utimesSync("/var/lib/cni/networks/gc-net/10.42.0.2", old, old);
      const shown = place.wayout(node, "gc", "--dry-run", "--json");
      expect(JSON.parse(shown.stdout).networks[0]).toMatchObject({
        network: "gc-net",
        links: [],
        addresses: [{ address: "10.42.0.2", owner: "leaked eth0" }],
        natRules: true,
      });
      expect(place.wayout(node, "gc", "--dry-run").stdout).toContain("would remove its NAT rules");
      const removed = place.wayout(node, "gc");
      expect(removed).toMatchObject({ exitCode: 0, stderr: "" });
      expect(removed.stdout).toContain("removed address 10.42.0.2");
      expect(removed.stdout).toContain("removed its NAT rules");
      expect(place.wayout(node, "gc").stdout).toContain("nothing is left over");
      expect(ask(node, ["nft", "list", "ruleset"])).toBe("");

      const uninstalled = place.wayout(node, "uninstall", "--json");
      expect(JSON.parse(uninstalled.stdout).removed).toHaveLength(3);
      expect(existsSync(place.conflist)).toBe(false);
      expect(place.wayout(node, "uninstall").stdout).toBe("Nothing was installed.\n");
    });
  },
);

withPrograms("a pod that libcni remembers, with a namespace that is there, is never garbage", () => {
  inDirectory((place) => {
    const node = freshNamespace("node");
    place.wayout(node, "install", "--subnet", "10.42.0.0/24", "--name", "kept-net");
    const conflist = JSON.parse(readFileSync(place.conflist, "utf8")) as {
      plugins: Record<string, unknown>[];
    };
    const conf = { ...conflist.plugins[0]!, name: "kept-net", cniVersion: "1.0.0" };
    const pod = freshPod("kept");
    const result = must(call(node, "ADD", conf, pod));
    const old = Date.now() / 1000 - 200;
    utimesSync("/var/lib/cni/networks/kept-net/10.42.0.2", old, old);
    mkdirSync("/var/lib/cni/results", { recursive: true });
    writeFileSync(
      "/var/lib/cni/results/kept-net-kept-eth0",
      JSON.stringify({
        kind: "cniCacheV1",
        containerId: "kept",
        ifName: "eth0",
        networkName: "kept-net",
        netns: pod.netns,
        result,
      }),
    );
    expect(JSON.parse(place.wayout(node, "gc", "--json").stdout).networks[0]).toMatchObject({
      links: [],
      addresses: [],
    });
    expect(ask(pod.namespace, ["ip", "-br", "link"])).toContain("eth0");
    rmSync("/var/lib/cni/results/kept-net-kept-eth0");
  });
});

withPrograms("a plugin that runs is replaced under its feet, and ends its work", async () => {
  const directory = mkdtempSync(join(tmpdir(), "wayout-install-"));
  afterThisTest(() => rmSync(directory, { recursive: true }));
  const place = new Place(directory);
  const node = freshNamespace("node");
  place.wayout(node, "install", "--subnet", "10.42.0.0/24");
  const program = join(place.bin, "wayout");
  const before = statSync(program).ino;
  // It waits for its configuration, which ends with standard input.
  const pod = freshPod();
  const running = node.run(() =>
    Bun.spawn([program], { stdin: "pipe", stdout: "pipe", stderr: "pipe", env: environmentOf("ADD", pod) }),
  );
  const again = place.wayout(node, "install", "--json");
  expect(again).toMatchObject({ exitCode: 0, stderr: "" });
  expect(statSync(program).ino).not.toBe(before);
  await running.stdin.write(JSON.stringify(bridgeNetwork()));
  await running.stdin.end();
  const said = await new Response(running.stdout).text();
  expect([await running.exited, said]).toEqual([0, expect.stringContaining("10.42.0.2/24")]);
  expect(readdirSync(place.bin).sort()).toEqual(["loopback", "wayout"]);
  expect(readdirSync(place.conf)).toEqual(["10-wayout.conflist"]);
});

testWith(["root", "ip", "nft", "strace"])(
  "killed before any system call that changes something: what is there is whole, and the next install finishes it",
  () => {
    inDirectory((place) => {
      const node = freshNamespace("node");
      const { size } = statSync(installedFile());
      const CHANGING = ["?mkdir,?mkdirat", "ftruncate", "fsync", "?chmod,?fchmodat", "?rename,?renameat"];
      let points = 0;
      for (const kind of CHANGING) {
        for (let nth = 1; ; nth++) {
          const kill = ["-e", `trace=${kind}`, "-e", `inject=${kind}:signal=KILL:when=${nth}`];
          const options = ["--bin-dir", place.bin, "--conf-dir", place.conf, "--subnet", "10.42.0.0/24"];
          const install = [pluginProgram(), "cni", "install", ...options];
          const { exitCode } = run(node, ["strace", "-f", "-o", "/dev/null", ...kill, ...install]);
          const program = join(place.bin, "wayout");
          if (existsSync(program)) {
            expect(statSync(program)).toMatchObject({ size, mode: 0o100755 });
          }
          if (existsSync(place.conflist)) {
            expect(existsSync(program)).toBe(true);
            expect(JSON.parse(readFileSync(place.conflist, "utf8"))).toMatchObject({ name: "wayout" });
          }
          if (exitCode === 0) break;
          points++;
          expect(place.wayout(node, "install", "--subnet", "10.42.0.0/24").exitCode).toBe(0);
          expect([readdirSync(place.bin).sort(), readdirSync(place.conf)]).toEqual([
            ["loopback", "wayout"],
            ["10-wayout.conflist"],
          ]);
          expect(place.wayout(node, "uninstall").exitCode).toBe(0);
          for (const path of [place.bin, place.conf]) rmSync(path, { recursive: true });
        }
        expect(place.wayout(node, "uninstall").exitCode).toBe(0);
        for (const path of [place.bin, place.conf]) rmSync(path, { recursive: true });
      }
      expect(points).toBeGreaterThan(7);
    });
  },
  180_000,
);

withPrograms("a conflist of our name that is somebody else's survives install and uninstall", () => {
  inDirectory((place) => {
    const node = freshNamespace("node");
    mkdirSync(place.conf, { recursive: true });
    const theirs = JSON.stringify({ cniVersion: "1.0.0", name: "theirs", plugins: [{ type: "bridge" }] });
    writeFileSync(place.conflist, theirs);
    expect(JSON.parse(place.wayout(node, "install", "--json").stdout)).toMatchObject({
      wroteConflist: false,
    });
    expect(readFileSync(place.conflist, "utf8")).toBe(theirs);
    expect(JSON.parse(place.wayout(node, "uninstall", "--json").stdout)).toEqual({
      removed: ["loopback", "wayout"].map((name) => join(place.bin, name)),
    });
    expect(readFileSync(place.conflist, "utf8")).toBe(theirs);
  });
});

withPrograms("the example conflist is a network that works as it stands", () => {
  const example = join(import.meta.dir, "..", "..", "examples", "10-wayout.conflist");
  const { name, cniVersion, plugins } = JSON.parse(readFileSync(example, "utf8")) as {
    name: string;
    cniVersion: string;
    plugins: Configuration[];
  };
  const chain = new Chain(freshNamespace("node"), name, plugins, cniVersion);
  const pod = freshPod();
  const result = chain.add(pod);
  for (const { gateway } of result.ips!) {
    expect(run(pod.namespace, ["ping", "-c1", "-W5", gateway!]).exitCode).toBe(0);
  }
  chain.check(pod, result);
  chain.del(pod, result);
});

/** What may stand where the network is to be written. */
const STANDING: readonly (readonly [what: string, make: string, exitCode: number])[] = [
  ["nothing in it", ": > 10-wayout.conflist", 0],
  ["blanks in it", "printf ' \\n' > 10-wayout.conflist", 0],
  ["a link to nowhere", "ln -s /nowhere/x 10-wayout.conflist", 0],
  ["half of one", `echo '{"name":"wayout","plu' > 10-wayout.conflist`, 3],
  ["a FIFO", "mkfifo 10-wayout.conflist", 3],
  ["a directory", "mkdir 10-wayout.conflist", 3],
];

for (const [what, make, exitCode] of STANDING) {
  withPrograms(`a conflist of our name with ${what}: a whole one is written, or it is named and kept`, () => {
    inDirectory((place) => {
      mkdirSync(place.conf, { recursive: true });
      ask(undefined, ["sh", "-c", `cd ${place.conf} && ${make}`]);
      const listed = (): string => ask(undefined, ["ls", "-ln", "--time-style=full-iso", place.conf]);
      const before = listed();
      const ran = place.wayout(freshNamespace("node"), "install", "--subnet", "10.42.0.0/24");
      expect([what, ran.exitCode, ran.stderr]).toEqual([
        what,
        exitCode,
        exitCode === 0 ? "" : expect.stringContaining(place.conflist),
      ]);
      if (exitCode !== 0) expect(listed()).toBe(before);
      else
        expect(JSON.parse(readFileSync(place.conflist, "utf8"))).toHaveProperty("plugins.0.type", "wayout");
      expect(readdirSync(place.conf)).toEqual(["10-wayout.conflist"]);
    });
  });
}

/** Plugins that stand beside ours and must be asked which versions they speak. */
const PLUGINS: readonly (readonly [what: string, script: string, said: string])[] = [
  ["hangs, whatever it is sent", "trap '' TERM INT; sleep 60", "it does not end"],
  ["leaves a child with its output", "sleep 60 & exit 0", "it does not end"],
  ["prints without end", "exec yes", "it ended with"],
  ["prints what is no JSON", "printf '\\033[2Jno'", "\\x1b[2Jno"],
  ["answers null", "echo null", "said null"],
  ["speaks nothing that we do", `echo '{"supportedVersions":["9.0.0"]}'`, "it speaks 9.0.0"],
  ["fails", `echo '{"supportedVersions":["1.0.0"]}'; exit 7`, "it ended with 7"],
];

for (const [what, script, said] of PLUGINS) {
  withPrograms(`a portmap that ${what} ends the installation in time, and no network is written`, () => {
    inDirectory((place) => {
      mkdirSync(place.bin, { recursive: true });
      writeFileSync(join(place.bin, "portmap"), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
      const ran = place.wayout(freshNamespace("node"), "install", "--subnet", "10.42.0.0/24");
      expect([ran.exitCode, ran.stdout]).toEqual([3, ""]);
      expect(ran.stderr).toContain(said);
      expect(ran.stderr.length).toBeLessThan(1000);
      expect(existsSync(place.conf) ? readdirSync(place.conf) : []).toEqual([]);
    });
  });
}

testWith(["root", "ip", "nft", "unshare", "mount"])(
  "on a full or a read-only disk nothing is left, and the cause is told",
  () => {
    inDirectory((place) => {
      for (const directory of [place.bin, place.conf]) mkdirSync(directory, { recursive: true });
      const node = freshNamespace("node");
      const worlds = [
        [`mount -t tmpfs -o size=64k t ${place.bin}`, /ENOSPC|no space/i],
        [`mount -t tmpfs -o size=4k,nr_inodes=1 t ${place.conf}`, /ENOSPC|no space/i],
        [`mount -t tmpfs -o ro t ${place.bin}`, /EROFS|read-only/i],
        [`mount -t tmpfs -o ro t ${place.conf}`, /EROFS|read-only/i],
      ] as const;
      for (const [mount, said] of worlds) {
        const command = [pluginProgram(), "cni", "install", "--bin-dir", place.bin, "--conf-dir", place.conf];
        const world = `${mount} && { ${command.join(" ")}; code=$?; ls -A ${place.bin} ${place.conf}; exit $code; }`;
        const { exitCode, stdout, stderr } = run(node, ["unshare", "-m", "bash", "-c", world]);
        expect([mount, exitCode, stderr]).toEqual([mount, 3, expect.stringMatching(said)]);
        expect([mount, stdout.includes(".new-"), stdout.includes("10-wayout")]).toEqual([
          mount,
          false,
          false,
        ]);
      }
    });
  },
);
