import { expect, test } from "bun:test";
import { parseTarget } from "../../src/trace/observe/destination.ts";
import { question } from "../../src/trace/observe/dns-message.ts";
import { askedNameservers, parseResolvConf } from "../../src/linux/resolv-conf.ts";

test("destinations, as people write them", () => {
  expect(parseTarget("198.51.100.80")).toEqual({ host: "198.51.100.80", protocol: "tcp", port: 443 });
  expect(parseTarget("198.51.100.80:80")).toEqual({ host: "198.51.100.80", protocol: "tcp", port: 80 });
  expect(parseTarget("2001:DB8::1")).toEqual({ host: "2001:db8::1", protocol: "tcp", port: 443 });
  expect(parseTarget("[2001:db8::1]:53", { protocol: "udp" })).toEqual({
    host: "2001:db8::1",
    protocol: "udp",
    port: 53,
  });
  expect(parseTarget("example.org", { protocol: "icmp" })).toEqual({ host: "example.org", protocol: "icmp" });
  expect(parseTarget("example.org", { protocol: "udp" }).port).toBe(53);
  expect(parseTarget("example.org:1", { port: "2" }).port).toBe(2);
  expect(parseTarget("http://[2001:db8::1]:8080/a?b=c")).toEqual({
    host: "2001:db8::1",
    protocol: "tcp",
    port: 8080,
    httpPath: "/a?b=c",
  });
  expect(parseTarget("example.org", { http: true })).toMatchObject({ port: 80, httpPath: "/" });
});

test("what is no destination", () => {
  for (const text of [
    "",
    "10.0.0.256",
    "10.0.0",
    "a b",
    "[example.org]:80",
    "10.0.0.1:0",
    "10.0.0.1:x",
    "ftp://x/",
    "https://x/",
  ]) {
    expect(() => parseTarget(text)).toThrow(
      expect.objectContaining({ code: "bad-destination", kind: "usage" }),
    );
  }
  expect(() => parseTarget("10.0.0.1:80", { protocol: "icmp" })).toThrow("ICMP has no ports");
  expect(() => parseTarget("http://x/", { protocol: "udp" })).toThrow("HTTP runs over TCP");
});

test("resolv.conf, and a question in DNS", () => {
  const text =
    "# nameserver 192.0.2.9\nsearch x\n nameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver 2001:db8::53 \nnameserver nonsense\n";
  expect(askedNameservers(parseResolvConf(text))).toEqual(["192.0.2.1", "fe80::1", "2001:db8::53"]);
  expect(Buffer.from(question(0x1234, "api.github.com.", 4)).toString("hex")).toBe(
    "123401000001000000000000036170690667697468756203636f6d0000010001",
  );
  expect(() => question(1, `${"a".repeat(64)}.org`, 4)).toThrow("no name in DNS");
  expect(() => question(1, "a..b", 4)).toThrow("no name in DNS");
});
