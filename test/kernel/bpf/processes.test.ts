/** Who started what, and who writes settings: noted by the kernel before anybody asks. */
import { expect } from "bun:test";
import { ProcessWatch } from "../../../src/kernel/bpf/processes.ts";
import { monotonicMs } from "../../../src/kernel/calls.ts";
import { ask, testWith } from "../../support/witness.ts";
import { freshNamespace } from "../../support/world.ts";

testWith(["real-root"])("a process that is gone is known with its parents", () => {
  using watch = ProcessWatch.open();
  const [shell, sleeper] = ask(undefined, ["bash", "-c", "sh -c 'sleep 0 & echo $$ $!; wait'; :"])
    .trim()
    .split(" ");
  expect(watch.process(Number(sleeper))).toMatchObject({ pid: Number(sleeper), name: "sleep" });
  const { parents = [] } = watch.process(Number(sleeper)) ?? {};
  expect(parents[0]).toEqual({ pid: Number(shell), name: "sh" });
  expect(parents.map(({ name }) => name).slice(0, 2)).toEqual(["sh", "bash"]);
  expect(watch.process(0x7fff_fffe)).toBeUndefined();
});

testWith(["real-root"])("writes of network settings are noted with the namespace, and no others", () => {
  const node = freshNamespace();
  using watch = ProcessWatch.open();
  if (watch.blindToSettings !== undefined) throw new Error(watch.blindToSettings);
  ask(node, [
    "bash",
    "-c",
    "cat /proc/sys/net/ipv4/ip_default_ttl; sysctl -qw net.ipv4.ip_default_ttl=63; :",
  ]);
  const here = watch.settingWrites().filter(({ namespaceInode }) => namespaceInode === node.inode);
  expect(here).toMatchObject([{ name: "sysctl", setting: "net.ipv4.ip_default_ttl", value: "63" }]);
  expect(Math.abs(here[0]!.at - monotonicMs())).toBeLessThan(10_000);
  expect(watch.settingWrites().filter(({ namespaceInode }) => namespaceInode === node.inode)).toEqual([]);
});
