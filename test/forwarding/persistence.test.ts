import { afterEach, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import {
  bootValue,
  parseSysctlFile,
  persistSettings,
  readSysctlFiles,
  SYSCTL_FILE,
} from "../../src/forwarding/persistence.ts";

const roots: string[] = [];

afterEach(() => {
  for (const root of roots.splice(0)) rmSync(root, { recursive: true, force: true });
});

function rootWith(files: Readonly<Record<string, string>>): string {
  const root = mkdtempSync(join(tmpdir(), "wayout-root-"));
  roots.push(root);
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  return root;
}

const FORWARD = { name: "net.ipv4.ip_forward", value: "1" };

test("writes our file once, keeps what is in it, leaves no temporary file", () => {
  const root = rootWith({});
  expect(persistSettings([FORWARD], root)).toMatchObject({ written: true, undoneBy: [] });
  expect(persistSettings([FORWARD], root).written).toBe(false);
  persistSettings([{ name: "net.ipv6.conf.all.forwarding", value: "1" }], root);
  const text = readFileSync(join(root, SYSCTL_FILE), "utf8");
  expect(parseSysctlFile("f", text).map(({ name, value }) => `${name}=${value}`)).toEqual([
    "net.ipv4.ip_forward=1",
    "net.ipv6.conf.all.forwarding=1",
  ]);
  expect(readdirSync(join(root, "etc/sysctl.d"))).toEqual(["90-wayout.conf"]);
});

test("names the later file and line that undo it", () => {
  const root = rootWith({
    "usr/lib/sysctl.d/10-before.conf": "net.ipv4.ip_forward = 0\n",
    "etc/sysctl.d/99-hardening.conf": "# CIS\n\n-net/ipv4/ip_forward=0\n",
  });
  expect(persistSettings([FORWARD], root).undoneBy).toEqual([
    { file: "/etc/sysctl.d/99-hardening.conf", line: 3, name: "net.ipv4.ip_forward", value: "0" },
  ]);
});

test("/etc/sysctl.conf comes last, and the switch has a second name", () => {
  const root = rootWith({ "etc/sysctl.conf": "net.ipv4.conf.all.forwarding = 0\n" });
  expect(persistSettings([FORWARD], root).undoneBy.map(({ file }) => file)).toEqual(["/etc/sysctl.conf"]);
});

test("a file hides its namesakes in later directories", () => {
  const root = rootWith({
    "etc/sysctl.d/95-x.conf": "",
    "usr/lib/sysctl.d/95-x.conf": "net.ipv4.ip_forward = 0\n",
    "usr/lib/sysctl.d/README": "net.ipv4.ip_forward = 0\n",
  });
  expect(persistSettings([FORWARD], root).undoneBy).toEqual([]);
});

test("patterns set what no exact name sets", () => {
  const root = rootWith({
    "etc/sysctl.d/99-all.conf": "net.ipv4.conf.*.rp_filter = 1\nnet.ipv4.conf.eth0.rp_filter = 2\n",
  });
  const files = readSysctlFiles(root);
  expect(bootValue(files, "net.ipv4.conf.eth1.rp_filter").value).toBe("1");
  expect(bootValue(files, "net.ipv4.conf.eth0.rp_filter").value).toBe("2");
  expect(bootValue(files, "net.ipv4.ip_forward").value).toBeUndefined();
});

test("an interface with a dot in its name is written so that sysctl reads it", () => {
  const root = rootWith({});
  const name = "net.ipv6.conf.eth0.100.accept_ra";
  persistSettings([{ name, value: "2" }], root);
  expect(readFileSync(join(root, SYSCTL_FILE), "utf8")).toContain("net/ipv6/conf/eth0.100/accept_ra = 2");
  expect(bootValue(readSysctlFiles(root), name).value).toBe("2");
  expect(persistSettings([{ name, value: "2" }], root).written).toBe(false);
});

test("a file that cannot be written is an error with its path, and nothing is left", () => {
  // A file where the directory should be: even root cannot write below it.
  const root = rootWith({ "etc/sysctl.d": "" });
  expect(() => persistSettings([FORWARD], root)).toThrow("90-wayout.conf");
  expect(readdirSync(join(root, "etc"))).toEqual(["sysctl.d"]);
});

test("a file that cannot be read is said", () => {
  const root = rootWith({});
  mkdirSync(join(root, "etc/sysctl.d/50-directory.conf"), { recursive: true });
  expect(readSysctlFiles(root).unreadable.map(({ file }) => file)).toEqual([
    "/etc/sysctl.d/50-directory.conf",
  ]);
});
