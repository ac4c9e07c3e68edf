/** ipsets as ipset(8) saves them. */
import { expect } from "bun:test";
import { ipsetNames, listIpsets, ipsetAttributes } from "../../../src/kernel/ipset/ipset.ts";
import { Nftables } from "../../../src/kernel/nftables/nftables.ts";
import { iptablesText } from "../../../src/linux/nftables/text/ruleset.ts";
import { compareWithHeaders, namesOf, testWithHeaders } from "../../support/kernel-headers.ts";
import { ask, testWith } from "../../support/witness.ts";
import { freshNamespace } from "../../support/world.ts";

testWithHeaders("every attribute has the number it has in the headers", () => {
  const { wrong, unknown } = compareWithHeaders(
    ["linux/netfilter/ipset/ip_set.h"],
    namesOf([ipsetAttributes]),
  );
  expect(wrong).toEqual([]);
  expect(unknown).toEqual([]);
});

const SETS = `
create ips hash:ip
add ips 10.0.0.1
add ips 10.0.0.2
create nets hash:net
add nets 10.0.0.0/8
add nets 10.1.0.0/16 nomatch
add nets 192.0.2.1
create six hash:net family inet6
add six 2001:db8::/32
create services hash:ip,port
add services 10.0.0.1,tcp:80
add services 10.0.0.1,udp:53
create pairs hash:ip,port,net
add pairs 10.0.0.1,tcp:80,10.1.0.0/16
create both hash:ip,port,ip
add both 10.0.0.1,sctp:80,10.1.0.1
create netports hash:net,port
add netports 10.0.0.0/24,tcp:443
create through hash:net,iface
add through 10.0.0.0/24,eth0
create macs bitmap:ip,mac range 10.0.0.0/24
add macs 10.0.0.3,00:11:22:33:44:55
create ports bitmap:port range 0-1024
add ports 80
create block bitmap:ip range 10.0.0.0/24
add block 10.0.0.7
create all list:set
add all ips
add all nets
`;

testWith(["root", "ipset"])("sets of all kinds", () => {
  const namespace = freshNamespace();
  ask(namespace, ["ipset", "restore"], SETS);
  const sets = listIpsets(namespace);
  const ours = sets.flatMap((set) =>
    set.entries.map(({ value, nomatch }) => `add ${set.name} ${value}${nomatch ? " nomatch" : ""}`),
  );
  const saved = ask(namespace, ["ipset", "save"]).split("\n");
  expect(ours.sort()).toEqual(saved.filter((line) => line.startsWith("add")).sort());
  expect(sets.map((set) => `create ${set.name} ${set.type}`).sort()).toEqual(
    saved
      .filter((line) => line.startsWith("create"))
      .map((line) => line.split(" ").slice(0, 3).join(" "))
      .sort(),
  );
  expect(sets.find((set) => set.name === "six")?.family).toBe(6);
});

testWith(["root", "ipset"])("a set of many entries comes in several messages and is one", () => {
  const namespace = freshNamespace();
  const many = Array.from({ length: 5000 }, (_, index) => `add big 10.0.${index >> 8}.${index & 255}`);
  ask(namespace, ["ipset", "restore"], ["create big hash:ip", ...many].join("\n"));
  const [set] = listIpsets(namespace);
  expect(new Set(set!.entries.map((entry) => entry.value)).size).toBe(5000);
});

testWith(["root", "ipset", "iptables-nft"])("rules are shown with the names of the sets they ask", () => {
  const namespace = freshNamespace();
  ask(namespace, ["ipset", "restore"], SETS);
  const rule = "! --match-set services src,dst";
  ask(namespace, ["iptables-nft", "-A", "INPUT", "-m", "set", ...rule.split(" "), "-j", "DROP"]);
  using nftables = Nftables.open(namespace);
  const [only] = nftables.chainRules({ family: "ip", table: "filter", chain: "INPUT" })!;
  const ipsets = ipsetNames(listIpsets(namespace));
  expect(iptablesText(only!, "ip", { ipsets })).toBe(`-m set ${rule} -j DROP`);
});

testWith(["root"])("no sets, no entries", () => {
  expect(listIpsets(freshNamespace())).toEqual([]);
});
