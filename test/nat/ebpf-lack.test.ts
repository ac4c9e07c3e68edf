/** Where this machine cannot have the programs, that is said, with what to take instead; and what nobody has any more is swept. */
import { expect } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { NetworkNamespace } from "../../src/kernel/namespace.ts";
import { createNamedNamespace, deleteNamedNamespace } from "../../src/kernel/named-namespace.ts";
import { ERRNO, SystemError } from "../../src/linux/errno.ts";
import { namespaceDirectory } from "../../src/nat/backends/ebpf/bpf-directory.ts";
import { EbpfNat } from "../../src/nat/backends/ebpf/ebpf.ts";
import { explained } from "../../src/nat/backends/ebpf/refusal.ts";
import { masqueradeIntent } from "../../src/nat/intent.ts";
import { afterThisTest } from "../support/teardown.ts";
import { ask, run, testWith } from "../support/witness.ts";

const WAYOUT = join(import.meta.dir, "..", "..", "bin", "wayout");
const POLICY = join(import.meta.dir, "..", "..", "examples", "nat-policy.yaml");
const INTENT = masqueradeIntent("cni/blue", ["10.9.0.0/24"]);

/** Programs are the machine's: root of a user namespace is as little as an ordinary user. */
const WITHOUT_PRIVILEGE: Readonly<
  Record<string, { needs: ("root" | "real-root" | "unshare")[]; by: string[] }>
> = {
  "root of a user namespace": { needs: ["unshare"], by: ["unshare", "-Urn"] },
  "an ordinary user": {
    needs: ["root", "real-root"],
    by: ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"],
  },
};

for (const [who, { needs, by }] of Object.entries(WITHOUT_PRIVILEGE))
  testWith(needs)(`${who}: exit 3, and nftables is named`, () => {
    for (const words of [
      ["nat", "apply", "--backend", "ebpf", "-f", "-"],
      ["attach", "grey", "--create", "--backend", "ebpf"],
    ]) {
      const { exitCode, stderr } = run(undefined, [...by, WAYOUT, ...words], readFileSync(POLICY, "utf8"));
      expect([exitCode, stderr]).toEqual([3, expect.stringMatching(/the backend nftables/)]);
    }
  });

testWith(["root"])(
  "a kernel that is too old, or has no BPF: which one it needs, and nftables is named",
  () => {
    for (const code of ["EINVAL", "ENOSYS", "EOPNOTSUPP"] as const) {
      const failed = (): void => {
        throw new SystemError("bpf", ERRNO[code]);
      };
      expect(() => explained("attaching", failed)).toThrow(
        expect.objectContaining({
          code: "no-ebpf",
          kind: "machine",
          todo: expect.stringMatching(/needs 6\.6 or newer.*choose the backend nftables/),
        }),
      );
    }
  },
);

/** A container that has not been given the node's file system for BPF. */
const CONTAINER = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "sh", "-c"];
const HIDDEN = "while umount /sys/fs/bpf 2>/dev/null; do :; done; exec";

testWith(["root", "real-root", "unshare"])(
  "in a container without the node's BPF file system: what is missing is said",
  () => {
    const name = `lack-${process.pid}`;
    createNamedNamespace(name);
    afterThisTest(() => deleteNamedNamespace(name));
    using node = NetworkNamespace.named(name);
    const applied = node.run(() =>
      run(undefined, [...CONTAINER, `${HIDDEN} ${WAYOUT} attach grey --create --backend ebpf`]),
    );
    expect([applied.exitCode, applied.stderr]).toEqual([3, expect.stringMatching(/mount -t bpf.*nftables/)]);
  },
);

testWith(["root", "real-root", "ip"])("what a namespace that died has left is swept, and no other's", () => {
  const made = ["dead", "bare", "next"].map((what) => {
    const name = `${what}-${process.pid}`;
    createNamedNamespace(name);
    afterThisTest(() => void deleteNamedNamespace(name));
    const namespace = NetworkNamespace.named(name);
    ask(namespace, ["ip", "link", "add", "wan3", "type", "veth", "peer", "wan4"]);
    return { name, namespace, nat: new EbpfNat({ namespace }), directory: namespaceDirectory(namespace)! };
  });
  const [dead, bare, next] = made as [(typeof made)[0], (typeof made)[0], (typeof made)[0]];
  for (const { nat, namespace } of [bare, next])
    afterThisTest(() => {
      nat.remove();
      namespace.close();
    });
  dead.nat.apply(INTENT);
  bare.nat.apply(INTENT);
  // It lives, without a link.
  ask(bare.namespace, ["ip", "link", "delete", "wan3"]);
  dead.namespace.close();
  deleteNamedNamespace(dead.name);
  // The kernel takes its links away a little later.
  const until = Date.now() + 10_000;
  do next.nat.remove();
  while ((next.nat.apply(INTENT), existsSync(dead.directory)) && Date.now() < until);
  expect([dead, bare, next].map(({ directory }) => existsSync(directory))).toEqual([false, true, true]);
  expect(bare.nat.intents()).toHaveLength(1);
});
