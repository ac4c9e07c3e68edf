/** What the doctor never tells anybody to do: whatever a check composes, the line does not get out. */
import { expect, test } from "bun:test";
import { isNeverAdvised } from "../../src/causes/never-advised.ts";
import { anywhere, finding } from "../../src/doctor/check.ts";
import { command } from "../../src/text/command.ts";

const NEVER = [
  "ip addr del 10.0.0.1/24 dev eth0",
  "ip -6 a d 2001:db8::1/64 dev eth0",
  "ip netns exec 'a pod' ip address delete 10.0.0.1/24 dev eth0",
  "nsenter --net=/proc/7/ns/net /sbin/ip addr flush dev eth0",
  "ip -n 'a pod' addr del 10.0.0.1/24 dev eth0",
  "ip netns exec red sh -c 'ip addr del 10.0.0.1/24 dev eth0'",
  "ip route del default",
  "ip -6 route del ::/0 via fe80::1 dev eth0",
  "ip route del unicast default via 203.0.113.1 dev eth0 table 30400",
  "ip ro flush table main",
  "ip route flush cache table main",
  "ip rule del priority 32766",
  "ip -6 rule delete pref 0",
  "ip rule flush",
  "ip netns del red",
  "sysctl -w net.ipv4.ip_forward=1 && ip rule del prio 32767",
  "or take it away: “ip addr del 10.0.0.1/24 dev eth0”",
];

const ALLOWED = [
  "ip addr add 10.0.0.1/24 dev eth0",
  "ip route replace default via 10.0.0.254 dev eth0",
  "ip route del 10.0.0.0/8 dev tun0",
  "ip route del blackhole default table 51820",
  "ip route flush 198.51.100.0/24",
  "ip netns exec red ip route flush cache",
  "ip rule del priority 99 from 10.0.0.0/24 lookup 77",
  "ip neigh flush to 10.0.0.1 dev br0",
  "ip netns exec red ip link set dev eth0 up",
  "ip link set dev default up",
  "delete the pod that holds the address, so that its runtime makes it anew",
];

test.each(NEVER)("never: %s", (line) => {
  expect(isNeverAdvised(line)).toBe(true);
});

test.each(ALLOWED)("allowed: %s", (line) => {
  expect(isNeverAdvised(line)).toBe(false);
});

test("a finding leaves such lines out, and keeps the others", () => {
  const found = finding("rule-captures", {
    text: "a rule takes it",
    owner: "nobody",
    evidence: [],
    consequence: "it is lost",
    fix: [anywhere(command`ip rule del priority ${32766}`), anywhere(command`ip rule del priority ${99}`)],
    advice: ["ip route del default", "ask its owner"],
  });
  expect(found.fix.map(({ command: line }): string => line)).toEqual(["ip rule del priority 99"]);
  expect(found.advice).toEqual(["ask its owner"]);
});
