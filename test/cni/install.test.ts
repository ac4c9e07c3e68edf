/** `wayout cni install`, `uninstall` and `gc`, by the built program. */
import { expect } from "bun:test";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { ask, run, testWith, type Ran } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";
import { call, freshPod, must, pluginProgram } from "./plugin.ts";

const withPrograms = testWith(["root", "ip", "nft"]);

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
      expect(JSON.parse(fresh.stdout).networks[0]).toMatchObject({ links: [], addresses: [] });
      // Two minutes later no ADD can be under way any more.
      const old = Date.now() / 1000 - 200;
      utimesSync("/var/lib/cni/networks/gc-net/10.42.0.2", old, old);
      const shown = place.wayout(node, "gc", "--dry-run", "--json");
      expect(JSON.parse(shown.stdout).networks[0]).toMatchObject({
        network: "gc-net",
        links: [{ alias: "cni/gc-net leaked eth0" }],
        addresses: [{ address: "10.42.0.2", owner: "leaked eth0" }],
      });
      expect(ask(pod.namespace, ["ip", "-br", "link"])).toContain("eth0");
      expect(place.wayout(node, "gc")).toMatchObject({
        exitCode: 0,
        stderr: "",
        stdout: expect.stringContaining("removed address 10.42.0.2"),
      });
      expect(ask(pod.namespace, ["ip", "-br", "link"])).not.toContain("eth0");
      expect(ask(node, ["nft", "list", "ruleset"])).toBe("");

      const removed = place.wayout(node, "uninstall", "--json");
      expect(JSON.parse(removed.stdout).removed).toHaveLength(2);
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
