/** Settings by name: where they live, what they were, and why one cannot be had. */
import { expect, test } from "bun:test";
import * as fc from "fast-check";
import { WayoutError } from "../../src/error.ts";
import { readSysctl, sysctlPath, writeSysctl } from "../../src/kernel/sysctl.ts";
import { ask, run, testWith } from "../support/witness.ts";
import { freshNamespace } from "../support/world.ts";

const rootTest = testWith(["root", "ip"]);

function failureOf(action: () => unknown): WayoutError {
  try {
    action();
  } catch (error) {
    if (error instanceof WayoutError) return error;
    throw error;
  }
  throw new Error("it did not fail");
}

test("names lead to files, interfaces with dots and both spellings included", () => {
  expect(sysctlPath("net.ipv4.ip_forward")).toBe("/proc/sys/net/ipv4/ip_forward");
  expect(sysctlPath("net/ipv4/ip_forward")).toBe("/proc/sys/net/ipv4/ip_forward");
  expect(sysctlPath("net.ipv4.conf.eth0.100.rp_filter")).toBe("/proc/sys/net/ipv4/conf/eth0.100/rp_filter");
  expect(sysctlPath("net.ipv4.conf.eth0/100.rp_filter")).toBe("/proc/sys/net/ipv4/conf/eth0.100/rp_filter");
  expect(sysctlPath("net/ipv6/conf/eth0.100/accept_ra")).toBe("/proc/sys/net/ipv6/conf/eth0.100/accept_ra");
  expect(sysctlPath("net.ipv6.neigh.a.b.c.gc_stale_time")).toBe(
    "/proc/sys/net/ipv6/neigh/a.b.c/gc_stale_time",
  );
});

test("no name leads outside /proc/sys", () => {
  for (const name of [
    "",
    ".",
    "..",
    "net..ipv4",
    "../etc/passwd",
    "net/../../etc/passwd",
    "/etc/passwd",
    "net.ipv4\0x",
  ]) {
    expect(failureOf(() => sysctlPath(name)).code).toBe("bad-sysctl-name");
  }
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom("net", "ipv4", "conf", ".", "..", "/", "x") }), (name) => {
      try {
        const parts = sysctlPath(name).split("/");
        expect(parts.slice(0, 3)).toEqual(["", "proc", "sys"]);
        expect(parts).not.toContain("..");
      } catch (error) {
        expect(error).toBeInstanceOf(WayoutError);
      }
    }),
  );
});

rootTest("writing tells what it was before, in the namespace it is about and in no other", () => {
  const [here, there] = [freshNamespace(), freshNamespace()];
  expect(writeSysctl(here, "net.ipv4.ip_forward", "1")).toBe("0");
  expect(writeSysctl(here, "net.ipv4.ip_forward", "1")).toBe("1");
  expect(ask(here, ["cat", "/proc/sys/net/ipv4/ip_forward"])).toBe("1\n");
  expect(readSysctl(there, "net.ipv4.ip_forward")).toBe("0");
  ask(here, ["ip", "link", "add", "v0.7", "type", "veth", "peer", "name", "v1"]);
  expect(writeSysctl(here, "net.ipv4.conf.v0.7.rp_filter", "2")).toBe("0");
  expect(ask(here, ["cat", "/proc/sys/net/ipv4/conf/v0.7/rp_filter"])).toBe("2\n");
  expect(readSysctl(there, "net.ipv4.conf.v0.7.rp_filter")).toBeUndefined();
});

rootTest("several numbers are the same whatever separates them", () => {
  const here = freshNamespace();
  expect(writeSysctl(here, "net.ipv4.ip_local_port_range", "20000 30000")).toBe("32768\t60999");
  expect(writeSysctl(here, "net.ipv4.ip_local_port_range", "20000 \t 30000")).toBe("20000\t30000");
});

rootTest("what is missing, or takes no such value, says so and what to do", () => {
  const here = freshNamespace();
  expect(readSysctl(here, "net.ipv4.no_such_setting")).toBeUndefined();
  expect(failureOf(() => writeSysctl(here, "net.ipv4.no_such_setting", "1"))).toMatchObject({
    code: "sysctl-missing",
    kind: "machine",
    details: { name: "net.ipv4.no_such_setting" },
  });
  const bridge = failureOf(() => writeSysctl(here, "net.bridge.no-such", "1"));
  expect(bridge.todo).toContain("br_netfilter");
  const value = failureOf(() => writeSysctl(here, "net.ipv4.ip_forward", "banana"));
  expect(value).toMatchObject({ code: "sysctl-bad-value", kind: "usage" });
  expect(value.message).toBe("setting net.ipv4.ip_forward = banana: the kernel refuses this value");
  expect(readSysctl(here, "net.ipv4.ip_forward")).toBe("0");
});

rootTest("under a read-only /proc/sys a value that is right already is no error, another one is", () => {
  const script = `
    import { writeSysctl } from ${JSON.stringify(import.meta.resolve("../../src/kernel/sysctl.ts"))};
    console.log(writeSysctl(undefined, "net.ipv4.ip_forward", "0"));
    try { writeSysctl(undefined, "net.ipv4.ip_forward", "1"); } catch (error) { console.log(error.code); }
  `;
  const mounted = run(freshNamespace(), [
    "unshare",
    "-m",
    "sh",
    "-c",
    'mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys && exec "$0" -e "$1"',
    process.execPath,
    script,
  ]);
  expect(mounted).toMatchObject({ exitCode: 0, stdout: "0\nsysctl-read-only\n" });
});
