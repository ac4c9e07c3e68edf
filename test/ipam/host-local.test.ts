/** host-local's files, beside the reference plugin on the same directory. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isIp } from "../../src/address/ip.ts";
import { WayoutError } from "../../src/error.ts";
import { readHostLocal } from "../../src/ipam/configuration.ts";
import { Fields } from "../../src/ipam/fields.ts";
import { assign, check, collect, release, status } from "../../src/ipam/host-local.ts";
import { run, testWith } from "../support/witness.ts";

/** The reference plugin, where Debian installs it. */
const REFERENCE = "/usr/lib/cni/host-local";

let dataDir: string;
beforeEach(() => {
  dataDir = mkdtempSync(join(tmpdir(), "wayout-ipam-"));
});
afterEach(() => rmSync(dataDir, { recursive: true, force: true }));

function ipam(extra: object = { subnet: "10.1.0.0/24" }): object {
  return { type: "host-local", dataDir, ...extra };
}

function configuration(extra?: object, runtime?: object) {
  const requests = runtime === undefined ? {} : { runtime: Fields.of(runtime, "runtimeConfig") };
  return readHostLocal("net", Fields.of(ipam(extra), "ipam"), requests);
}

function owner(container: string, interfaceName = "eth0") {
  return { container, interfaceName };
}

function directory(): string {
  return join(dataDir, "net");
}

function files(): string[] {
  return readdirSync(directory()).filter(isIp).sort();
}

function codeOf(what: () => unknown): string {
  try {
    what();
  } catch (error) {
    if (error instanceof WayoutError) return error.code;
    throw error;
  }
  return "no error";
}

function reference(command: "ADD" | "DEL" | "CHECK", container: string, extra?: object) {
  const stdin = JSON.stringify({ cniVersion: "1.0.0", name: "net", type: "bridge", ipam: ipam(extra) });
  const ran = run(undefined, [REFERENCE], stdin, {
    PATH: process.env["PATH"],
    CNI_COMMAND: command,
    CNI_CONTAINERID: container,
    CNI_IFNAME: "eth0",
    CNI_NETNS: "/proc/self/ns/net",
    CNI_PATH: "/usr/lib/cni",
  });
  return { ...ran, address: /"address": "([^"]+)"/.exec(ran.stdout)?.[1] };
}

describe("assign", () => {
  test("gives one address of each set, round robin, in host-local's own files", () => {
    const both = configuration({ ranges: [[{ subnet: "10.1.0.0/29" }], [{ subnet: "fd00::/64" }]] });
    const { addresses } = assign(both, owner("a"));
    expect(addresses).toEqual([
      { address: "10.1.0.2/29", gateway: "10.1.0.1" },
      { address: "fd00::2/64", gateway: "fd00::1" },
    ]);
    expect(readFileSync(join(directory(), "10.1.0.2"), "utf8")).toBe("a\r\neth0");
    expect(readFileSync(join(directory(), "last_reserved_ip.0"), "utf8")).toBe("10.1.0.2");
    expect(readFileSync(join(directory(), "last_reserved_ip.1"), "utf8")).toBe("fd00::2");
    release(directory(), owner("a"));
    expect(assign(both, owner("b")).addresses[0]!.address).toBe("10.1.0.3/29");
  });

  test("goes round when the end is reached, and says so when nothing is left", () => {
    const small = configuration({ subnet: "10.1.0.0/29" });
    for (const name of ["a", "b", "c", "d", "e"]) assign(small, owner(name));
    expect(codeOf(() => status(small))).toBe("no-address-left");
    expect(codeOf(() => assign(small, owner("f")))).toBe("no-address-left");
    expect(files()).toHaveLength(5);
    release(directory(), owner("b"));
    status(small);
    // Of nobody, and not given away.
    writeFileSync(join(directory(), "10.1.0.3"), "\0damaged");
    expect(codeOf(() => assign(small, owner("f")))).toBe("no-address-left");
    expect(codeOf(() => status(small))).toBe("no-address-left");
    rmSync(join(directory(), "10.1.0.3"));
    status(small);
    expect(assign(small, owner("f")).addresses[0]!.address).toBe("10.1.0.3/29");
  });

  test("keeps nothing when the second set is full", () => {
    const half = configuration({
      ranges: [
        [{ subnet: "10.1.0.0/24" }],
        [{ subnet: "10.2.0.0/24", rangeStart: "10.2.0.9", rangeEnd: "10.2.0.9" }],
      ],
    });
    assign(half, owner("a"));
    expect(codeOf(() => assign(half, owner("b")))).toBe("no-address-left");
    expect(files()).toEqual(["10.1.0.2", "10.2.0.9"]);
    expect(release(directory(), owner("b"))).toEqual([]);
  });

  test("refuses a second address for the same interface, and allows another interface", () => {
    assign(configuration(), owner("a"));
    expect(codeOf(() => assign(configuration(), owner("a")))).toBe("already-attached");
    expect(assign(configuration(), owner("a", "eth1")).addresses[0]!.address).toBe("10.1.0.3/24");
  });

  test("gives a requested address, or says who has it", () => {
    const wants = configuration(undefined, { ips: ["10.1.0.77/24"] });
    expect(assign(wants, owner("a")).addresses[0]!.address).toBe("10.1.0.77/24");
    expect(() => assign(wants, owner("b"))).toThrow("it belongs to container a");
    expect(files()).toEqual(["10.1.0.77"]);
  });

  test("reads the name servers of resolvConf", () => {
    const path = join(dataDir, "resolv.conf");
    writeFileSync(path, "; a comment\nnameserver 192.0.2.1\nsearch a.example b.example\noptions ndots:5\n");
    expect(assign(configuration({ subnet: "10.1.0.0/24", resolvConf: path }), owner("a")).dns).toEqual({
      nameservers: ["192.0.2.1"],
      search: ["a.example", "b.example"],
      options: ["ndots:5"],
    });
    rmSync(path);
    const missing = configuration({ subnet: "10.1.0.0/24", resolvConf: path });
    expect(codeOf(() => assign(missing, owner("b")))).toBe("resolv-conf");
    expect(files()).toEqual(["10.1.0.2"]);
  });
});

describe("damage", () => {
  test("an empty address file, left by a writer that died, is free again", () => {
    assign(configuration(), owner("a"));
    writeFileSync(join(directory(), "10.1.0.3"), "");
    expect(assign(configuration(), owner("b")).addresses[0]!.address).toBe("10.1.0.3/24");
  });

  test("a corrupt address file is not given away, fails the check of its pod, and is collected", () => {
    assign(configuration(), owner("a"));
    writeFileSync(join(directory(), "10.1.0.3"), "\0\0garbage\0");
    expect(assign(configuration(), owner("b")).addresses[0]!.address).toBe("10.1.0.4/24");
    expect(codeOf(() => check(directory(), owner("b"), ["10.1.0.3"]))).toBe("reservation-lost");
    expect(collect(directory(), () => true)).toEqual([{ owner: undefined, addresses: ["10.1.0.3"] }]);
    expect(files()).toEqual(["10.1.0.2", "10.1.0.4"]);
  });

  test("a corrupt last_reserved_ip only costs the round robin", () => {
    assign(configuration(), owner("a"));
    writeFileSync(join(directory(), "last_reserved_ip.0"), "not an address");
    expect(assign(configuration(), owner("b")).addresses[0]!.address).toBe("10.1.0.3/24");
  });

  test("a data directory that is a file", () => {
    writeFileSync(directory(), "");
    expect(codeOf(() => assign(configuration(), owner("a")))).toBe("address-store");
  });

  test("an index that somebody damaged is made again when its seal is broken", () => {
    assign(configuration(), owner("a"));
    rmSync(join(directory(), ".owners"), { recursive: true });
    expect(codeOf(() => assign(configuration(), owner("a")))).toBe("already-attached");
    writeFileSync(join(directory(), ".owners", "ghost:eth0"), "10.1.0.99\n");
    expect(assign(configuration(), owner("ghost")).addresses[0]!.address).toBe("10.1.0.3/24");
  });

  testWith(["real-root"])("a full disk: an error, and nothing changed", () => {
    mkdirSync(directory());
    run(undefined, ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", directory()]);
    try {
      assign(configuration(), owner("a"));
      let filler = 0;
      try {
        for (; ; filler++) writeFileSync(join(directory(), `filler${filler}`), "x".repeat(4096));
      } catch {
        // Full now: the file that failed may exist, empty.
      }
      const before = readdirSync(directory()).sort();
      expect(codeOf(() => assign(configuration(), owner("b")))).toBe("address-store");
      expect(readdirSync(directory()).sort()).toEqual(before);
      expect(release(directory(), owner("a"))).toEqual(["10.1.0.2"]);
    } finally {
      run(undefined, ["umount", directory()]);
    }
  });
});

describe("release and collect", () => {
  test("release twice, and without a directory", () => {
    expect(release(directory(), owner("a"))).toEqual([]);
    expect(existsSync(directory())).toBe(false);
    assign(configuration(), owner("a"));
    expect(release(directory(), owner("a"))).toEqual(["10.1.0.2"]);
    expect(release(directory(), owner("a"))).toEqual([]);
  });

  test("a file of an old version names the container only and is found all the same", () => {
    mkdirSync(directory());
    writeFileSync(join(directory(), "10.1.0.2"), "old");
    expect(codeOf(() => assign(configuration(), owner("old")))).toBe("already-attached");
    expect(release(directory(), owner("old"))).toEqual(["10.1.0.2"]);
  });

  test("an address that went to somebody else meanwhile is left to them", () => {
    assign(configuration(), owner("a"));
    writeFileSync(join(directory(), "10.1.0.2"), "b\r\neth0");
    expect(release(directory(), owner("a"))).toEqual([]);
    expect(files()).toEqual(["10.1.0.2"]);
  });

  test("collect gives back what is not valid, and only says so when it is a rehearsal", () => {
    for (const name of ["a", "b", "c"]) assign(configuration(), owner(name));
    const isValid = ({ container }: { container: string }): boolean => container === "b";
    expect(collect(directory(), isValid, true)).toHaveLength(2);
    expect(files()).toHaveLength(3);
    collect(directory(), isValid);
    expect(files()).toEqual(["10.1.0.3"]);
    expect(codeOf(() => assign(configuration(), owner("b")))).toBe("already-attached");
  });
});

describe("the index", () => {
  test("stays sealed from call to call, so that no address file is read again", () => {
    assign(configuration(), owner("a"));
    // A seal is two whole seconds; a change leaves the clock's own time.
    for (const path of [directory(), join(directory(), ".owners")]) {
      expect(statSync(path, { bigint: true }).mtimeNs % 1_000_000_000n).toBe(0n);
    }
    assign(configuration(), owner("b"));
    // Read only when the index is not believed: this file says nothing any more, yet its owner is known.
    writeFileSync(join(directory(), "10.1.0.2"), "garbage");
    expect(codeOf(() => assign(configuration(), owner("a")))).toBe("already-attached");
  });
});

describe("what is no file", () => {
  test("keeps its one address taken, and hinders nobody", () => {
    mkdirSync(join(directory(), "10.1.0.2"), { recursive: true });
    run(undefined, ["mkfifo", join(directory(), "10.1.0.3")]);
    symlinkSync("/dev/zero", join(directory(), "10.1.0.4"));
    symlinkSync("10.1.0.5", join(directory(), "10.1.0.5"));
    mkdirSync(join(directory(), "last_reserved_ip.0"));
    const one = configuration({ subnet: "10.1.0.0/24", rangeStart: "10.1.0.2", rangeEnd: "10.1.0.5" });
    expect(codeOf(() => assign(one, owner("a")))).toBe("no-address-left");
    rmSync(join(directory(), "last_reserved_ip.0"), { recursive: true });
    expect(assign(configuration(), owner("a")).addresses[0]!.address).toBe("10.1.0.6/24");
    expect(collect(directory(), () => false)).toHaveLength(1);
    expect(release(directory(), owner("a"))).toEqual([]);
    expect(files()).toEqual(["10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5"]);
  });
});

describe("what is no file in the index", () => {
  test("hinders nobody, and no address is given twice", () => {
    const made = join(directory(), ".owners", "a:eth0");
    const odd: readonly (() => void)[] = [
      () => mkdirSync(made),
      () => run(undefined, ["mkfifo", made]),
      () => symlinkSync("/dev/zero", made),
      () => symlinkSync("a:eth0", made),
      () => symlinkSync("/nowhere/at/all", made),
      () => writeFileSync(made, "\0\xff garbage"),
      () => writeFileSync(made, ""),
    ];
    for (const put of odd) {
      assign(configuration(), owner("a"));
      assign(configuration(), owner("b"));
      const held = files();
      for (const seal of [false, true]) {
        const times = [directory(), join(directory(), ".owners")].map(
          (path) => statSync(path).mtimeMs / 1000,
        );
        rmSync(made, { recursive: true, force: true });
        put();
        // As a change within one tick of a coarse clock: the index still looks sealed.
        if (seal) {
          utimesSync(join(directory(), ".owners"), times[1]!, times[1]!);
          utimesSync(directory(), times[0]!, times[0]!);
        }
        expect(codeOf(() => assign(configuration(), owner("b")))).toBe("already-attached");
        expect(codeOf(() => assign(configuration(), owner("a")))).toBe("already-attached");
        expect(files()).toEqual(held);
      }
      assign(configuration(), owner("c"));
      expect(files()).toHaveLength(3);
      for (const name of ["a", "b", "c"]) expect(release(directory(), owner(name))).toHaveLength(1);
      expect(files()).toEqual([]);
      rmSync(made, { recursive: true, force: true });
    }
  });

  test("nor does something else in the index's own place", () => {
    const index = join(directory(), ".owners");
    for (const put of [() => writeFileSync(index, ""), () => run(undefined, ["mkfifo", index])]) {
      assign(configuration(), owner("a"));
      rmSync(index, { recursive: true });
      put();
      expect(codeOf(() => assign(configuration(), owner("a")))).toBe("already-attached");
      assign(configuration(), owner("b"));
      expect(files()).toHaveLength(2);
      for (const name of ["a", "b"]) expect(release(directory(), owner(name))).toHaveLength(1);
      rmSync(index);
    }
  });
});

describe("a writer that died", () => {
  test("between the address and the index, within one tick of the clock: the address is found all the same", () => {
    assign(configuration(), owner("a"));
    release(directory(), owner("a"));
    writeFileSync(join(directory(), "10.1.0.9"), "dead\r\neth0");
    writeFileSync(join(directory(), ".owners", "dead:eth0"), "");
    for (const path of [directory(), join(directory(), ".owners")])
      utimesSync(path, 1_700_000_000, 1_700_000_000);
    expect(release(directory(), owner("dead"))).toEqual(["10.1.0.9"]);
    expect(files()).toEqual([]);
  });
});

describe("beside the reference plugin", () => {
  const withReference = testWith(existsSync(REFERENCE) ? [] : [REFERENCE]);

  withReference("both take turns on one directory and never give an address twice", () => {
    const seen: string[] = [];
    for (let turn = 0; turn < 8; turn++) {
      const address =
        turn % 2 === 0
          ? reference("ADD", `r${turn}`).address
          : assign(configuration(), owner(`w${turn}`)).addresses[0]!.address;
      seen.push(address!);
    }
    expect(seen).toEqual([2, 3, 4, 5, 6, 7, 8, 9].map((host) => `10.1.0.${host}/24`));
  });

  withReference("each releases, checks and refuses to double what the other gave", () => {
    expect(reference("ADD", "r").exitCode).toBe(0);
    check(directory(), owner("r"), ["10.1.0.2"]);
    expect(codeOf(() => assign(configuration(), owner("r")))).toBe("already-attached");
    expect(release(directory(), owner("r"))).toEqual(["10.1.0.2"]);
    expect(reference("CHECK", "r").exitCode).not.toBe(0);

    assign(configuration(), owner("w"));
    expect(reference("CHECK", "w").exitCode).toBe(0);
    expect(reference("ADD", "w").stdout).toContain("duplicate allocation");
    expect(reference("DEL", "w").exitCode).toBe(0);
    expect(files()).toEqual([]);
    expect(release(directory(), owner("w"))).toEqual([]);
  });

  withReference(
    "they exclude each other: 30 at once, half of each, all with different addresses",
    async () => {
      const script = `
      import { assign } from ${JSON.stringify(join(import.meta.dir, "../../src/ipam/host-local.ts"))};
      import { readHostLocal } from ${JSON.stringify(join(import.meta.dir, "../../src/ipam/configuration.ts"))};
      import { Fields } from ${JSON.stringify(join(import.meta.dir, "../../src/ipam/fields.ts"))};
      const configuration = readHostLocal("net", Fields.of(${JSON.stringify(ipam())}, "ipam"));
      for (let i = 0; i < 15; i++) assign(configuration, { container: "w" + i, interfaceName: "eth0" });
    `;
      const path = join(dataDir, "half.ts");
      writeFileSync(path, script);
      const ours = Bun.spawn([process.execPath, path], { stdout: "inherit", stderr: "inherit" });
      for (let i = 0; i < 15; i++) expect(reference("ADD", `r${i}`).exitCode).toBe(0);
      expect(await ours.exited).toBe(0);
      expect(files()).toHaveLength(30);
      const owners = files().map((address) => readFileSync(join(directory(), address), "utf8"));
      expect(new Set(owners).size).toBe(30);
    },
  );
});
