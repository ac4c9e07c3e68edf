/** What attach refuses: with which exit code, in which words, and that nothing changes. */
import { describe, expect } from "bun:test";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { pluginProgram } from "../cni/plugin.ts";
import { ask, run, testWith } from "../support/witness.ts";
import {
  awaitLinkLocal,
  ended,
  freshName,
  ip,
  namespaceCalled,
  nodeState,
  seenFrom,
  start,
  UPLINK,
  WAYOUT,
  wayout,
  wayoutJson,
  world,
} from "./world.ts";

const WITHOUT_NETFILTER = join(import.meta.dir, "..", "support", "without-netfilter.ts");
const testRoot = testWith(["root", "ip", "nft", "curl"]);

interface Refusal {
  readonly args: readonly string[];
  readonly exitCode?: number;
  readonly code: string;
  readonly says: RegExp;
}

/** Each must fail and change nothing: in words for a person, and once for all as a program reads it. */
async function expectRefusals(node: NetworkNamespace, refusals: readonly Refusal[]): Promise<void> {
  const before = nodeState(node);
  for (const [index, { args, exitCode = 2, code, says }] of refusals.entries()) {
    const asProgram = index % 4 === 3;
    const { stdout, stderr, ...rest } = await wayout(node, ...args, ...(asProgram ? ["--json"] : []));
    expect([args, rest.exitCode]).toEqual([args, exitCode]);
    if (asProgram) {
      const { error } = JSON.parse(stdout) as { error: { code: string } };
      expect([args, error.code, stderr]).toEqual([args, code, ""]);
    } else {
      expect([args, stdout]).toEqual([args, ""]);
      expect(stderr).toMatch(says);
    }
  }
  expect(nodeState(node)).toEqual(before);
}

describe("refused, and nothing changed:", () => {
  testRoot(
    "a /run that is read-only, or few files that may be open: the cause and its cure are named",
    () => {
      const { node } = world();
      const before = nodeState(node);
      const sealed = `mount -t tmpfs none /run && mkdir -p /run/netns && mount -o remount,ro /run && exec ${WAYOUT}`;
      const sealedRun = run(node, ["unshare", "-m", "sh", "-c", `${sealed} attach ${freshName()} --create`]);
      expect(sealedRun).toMatchObject({ exitCode: 3, stderr: expect.stringContaining("EROFS") });
      // The built program: from its sources it would need as many only to be loaded.
      for (const question of ["doctor", "list", "nat show"]) {
        for (const files of [8, 9]) {
          const limited = `ulimit -n ${files} && exec ${pluginProgram()} ${question}`;
          const crowded = run(node, ["bash", "-c", limited]);
          expect([limited, crowded.stderr]).toEqual([
            limited,
            expect.stringMatching(/EMFILE[^\n]*\n {2}→ [^\n]*ulimit -n/),
          ]);
          expect(crowded).toMatchObject({ exitCode: 3, stdout: "" });
        }
      }
      expect(nodeState(node)).toEqual(before);
    },
  );

  testRoot("namespaces that are unknown, the node's own, no namespace at all, or taken", async () => {
    const { node } = world();
    const [blue, twin] = [namespaceCalled(freshName("blue")), freshName("twin")];
    await wayoutJson(node, "attach", blue);
    const busy = namespaceCalled(freshName("busy"));
    ip(node, `link add side type veth peer name eth0 netns ${busy}`);
    const routed = namespaceCalled(freshName("routed"));
    ip(node, `link add tour type veth peer name wan0 netns ${routed}`);
    ask(
      undefined,
      ["ip", "-n", routed, "-batch", "-"],
      "address add 192.0.2.2/24 dev wan0\nlink set wan0 up\nroute add default via 192.0.2.1",
    );
    const crowded = namespaceCalled(freshName("crowded"));
    const routes = Array.from(
      { length: 100_000 },
      (_, number) => `100.${number >> 16}.${(number >> 8) & 255}.${number & 255}`,
    );
    ask(
      undefined,
      ["ip", "-n", crowded, "-batch", "-"],
      ["link set lo up", ...routes.map((address) => `route add ${address} dev lo`)].join("\n"),
    );
    writeFileSync(`/run/netns/${twin}`, "");
    await expectRefusals(node, [
      { args: ["attach", "nosuch"], code: "unknown-namespace", says: /there are .*\n.*--create/ },
      { args: ["detach", "nosuch"], code: "unknown-namespace", says: /attached are blue/ },
      { args: ["attach", "/proc/self/ns/nosuch"], code: "unknown-namespace", says: /does not exist/ },
      { args: ["attach", "/proc/thread-self/ns/net"], code: "own-namespace", says: /node itself/ },
      { args: ["attach", "/etc/passwd"], code: "not-a-namespace", says: /no network namespace/ },
      { args: ["attach", twin, "--create"], code: "not-a-namespace", says: /ip netns delete/ },
      { args: ["attach", "a b"], code: "bad-namespace-name", says: /ip netns/ },
      { args: ["attach", ".."], code: "bad-namespace-name", says: /ip netns/ },
      { args: ["attach", `/run/netns/${blue}`], code: "attached-already", says: /under the name blue/ },
      {
        args: ["attach", busy],
        code: "interface-taken",
        says: /has an interface eth0 already.*\n.*--interface/,
      },
      { args: ["attach", routed], code: "has-way-out", says: /default route already/ },
      { args: ["attach", crowded], code: "pod-not-read", says: /more than 4 MiB.*\n.*another namespace/ },
    ]);
    rmSync(`/run/netns/${twin}`);
    await wayoutJson(node, "attach", busy, "--interface", "wan0");
    expect(await seenFrom(busy)).toBe(UPLINK.v4);
  });

  testRoot("addresses and subnets that cannot be had", async () => {
    const { node } = world();
    const [blue, red] = [freshName("blue"), freshName("red")];
    ip(node, "route add 10.200.0.0/16 via 203.0.113.77");
    await wayoutJson(node, "attach", blue, "--create");
    const attach = (...more: string[]): string[] => ["attach", red, "--create", ...more];
    const other = (...more: string[]): string[] => attach("--bridge", "other0", ...more);
    await expectRefusals(node, [
      { args: attach("--subnet", "10.1.2"), code: "bad-option", says: /--subnet: "10.1.2" is not a CIDR/ },
      { args: attach("--subnet", "10.1.2.3/24"), code: "bad-option", says: /did you mean 10.1.2.0\/24/ },
      { args: attach("--subnet", "10.1.2.0/33"), code: "bad-option", says: /between 0 and 32/ },
      { args: attach("--ip", "10.1.2.300"), code: "bad-option", says: /--ip: .* not an IP address/ },
      {
        args: attach("--ip", "10.213.0.5", "10.213.0.6"),
        code: "bad-option",
        says: /one of IPv4 and one of IPv6/,
      },
      { args: attach("--no-ipv6", "--ip", "fd00::5"), code: "bad-option", says: /--no-ipv6/ },
      { args: attach("--snat", "me"), code: "bad-option", says: /--snat/ },
      { args: attach("--dns", "1.1.1"), code: "bad-option", says: /--dns/ },
      { args: attach("--subnet", "10.5.0.0/24"), code: "network-differs", says: /10.213.0.0\/24 since/ },
      { args: attach("--backend", "none"), code: "network-differs", says: /nftables since/ },
      { args: attach("--ipv6"), code: "network-differs", says: /only 10.213.0.0\/24/ },
      { args: attach("--ip", "10.213.0.2"), code: "address-taken", says: /belongs to the namespace blue/ },
      { args: attach("--ip", "10.213.0.1"), code: "address-taken", says: /this node itself/ },
      { args: attach("--ip", "10.213.0.255"), code: "address-reserved", says: /broadcast/ },
      { args: attach("--ip", "10.9.9.9"), code: "address-outside-subnet", says: /not in 10.213.0.0\/24/ },
      { args: attach("--ip", "fd00::5"), code: "family-missing", says: /has only 10.213.0.0\/24/ },
      { args: attach("--snat", "2001:db8::5"), code: "family-missing", says: /has only/ },
      {
        args: other("--subnet", "203.0.113.0/25"),
        code: "subnet-overlaps-route",
        says: /route to 203.0.113.0\/24/,
      },
      {
        args: other("--subnet", "10.200.7.0/24"),
        code: "subnet-overlaps-route",
        says: /10.200.0.0\/16 via 203.0.113.77/,
      },
      { args: other("--subnet", "10.213.0.0/25"), code: "subnet-overlaps-route", says: /10.213.0.0\/24/ },
      { args: other("--subnet", "10.9.9.9/32"), code: "subnet-too-small", says: /no room/ },
      { args: ["attach", blue, "--ip", "10.213.0.9"], code: "already-attached", says: /wayout detach/ },
      { args: ["attach", blue, "--snat", "203.0.113.9"], code: "already-attached", says: /--snat/ },
    ]);
  });

  testRoot("bridges that are none, names that are none, options that are none", async () => {
    const { node } = world();
    const red = freshName("red");
    ip(node, "link add br0 type bridge\naddress add 10.77.0.1/24 dev br0\nlink set br0 up");
    awaitLinkLocal(node, "br0");
    const attach = (...more: string[]): string[] => ["attach", red, "--create", ...more];
    await expectRefusals(node, [
      { args: attach("--bridge", "up0"), code: "not-a-bridge", says: /up0 is a veth interface/ },
      { args: attach("--bridge", "lo"), code: "not-a-bridge", says: /lo is an interface/ },
      { args: attach("--bridge", "sixteen-letters-"), code: "bad-option", says: /16 bytes.*at most 15/ },
      { args: attach("--bridge", "a/b"), code: "bad-option", says: /no interface name/ },
      { args: attach("--interface", "ünterfäcenäme"), code: "bad-option", says: /16 bytes/ },
      { args: attach("--bridge", "br0"), code: "address-needed", says: /was there before.*\n.*--ip/ },
      { args: attach("--bridge", "br0", "--ip", "10.77.0.1"), code: "address-taken", says: /node itself/ },
      { args: attach("--backend", "pf"), code: "usage", says: /nftables, iptables, ebpf, none/ },
      { args: attach("--brigde", "x"), code: "usage", says: /--bridge/ },
      { args: ["attach"], code: "usage", says: /namespace/ },
    ]);
  });
});

describe("what this user or machine cannot:", () => {
  const setpriv = testWith(["root", "ip", "nft", "curl", "setpriv"]);

  setpriv("without capabilities it says so with exit code 3, and leaves nothing", async () => {
    const { node } = world();
    const blue = freshName();
    const before = nodeState(node);
    for (const args of [
      ["attach", blue, "--create"],
      ["attach", namespaceCalled(freshName())],
    ]) {
      const { exitCode, stderr } = await ended(
        start(node, ["setpriv", "--bounding-set=-all", WAYOUT, ...args]),
      );
      expect(stderr).toMatch(/not permitted|may not|EPERM|EACCES/i);
      expect(stderr).toMatch(/root/);
      expect(exitCode).toBe(3);
    }
    expect({ ...nodeState(node), namespaces: "" }).toEqual({ ...before, namespaces: "" });
  });

  setpriv("an ordinary user may list, and is told what only root sees", async () => {
    const { node } = world();
    const blue = freshName();
    await wayoutJson(node, "attach", blue, "--create");
    const { exitCode, stdout } = await ended(
      start(node, ["setpriv", "--bounding-set=-all", WAYOUT, "list", "--json"]),
    );
    expect(exitCode).toBe(0);
    const { namespaces } = JSON.parse(stdout) as { namespaces: { name: string; state: string }[] };
    expect(namespaces).toEqual([expect.objectContaining({ name: blue, state: "unknown" })]);
  });

  testRoot("a kernel without nf_tables: said with exit code 3, and nothing is left", async () => {
    const { node } = world();
    const before = nodeState(node);
    const without = (...args: string[]) =>
      ended(start(node, [process.execPath, WITHOUT_NETFILTER, WAYOUT, ...args]));
    const { exitCode, stderr } = await without("attach", freshName(), "--create");
    expect(stderr).toMatch(/nf_tables/);
    expect(stderr).toMatch(/load the modules|backend iptables/);
    expect(exitCode).toBe(3);
    expect(nodeState(node)).toEqual(before);
    // Without translation there is a way out all the same, and it can be taken back.
    const blue = freshName();
    expect(await without("attach", blue, "--create", "--backend", "none")).toMatchObject({ exitCode: 0 });
    expect(await without("list")).toMatchObject({ exitCode: 0 });
    expect(await without("detach", blue)).toMatchObject({ exitCode: 0 });
    expect(nodeState(node)).toEqual(before);
  });

  testRoot("a record that is no record is not overwritten", async () => {
    const { node } = world();
    mkdirSync("/run/wayout/attachments", { recursive: true });
    const path = `/run/wayout/attachments/${node.cookie}.json`;
    writeFileSync(path, "{");
    const { exitCode, stderr } = await wayout(node, "attach", freshName(), "--create");
    expect(exitCode).toBe(1);
    expect(stderr).toContain(path);
    expect(await Bun.file(path).text()).toBe("{");
  });
});
