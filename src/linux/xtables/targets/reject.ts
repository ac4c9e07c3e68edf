import { describe, type XtDescription } from "../describe.ts";
import { option } from "../info.ts";

const IPV4 = [
  "icmp-net-unreachable",
  "icmp-host-unreachable",
  "icmp-proto-unreachable",
  "icmp-port-unreachable",
  "echo-reply",
  "icmp-net-prohibited",
  "icmp-host-prohibited",
  "tcp-reset",
  "icmp-admin-prohibited",
] as const;

const IPV6 = [
  "icmp6-no-route",
  "icmp6-adm-prohibited",
  "not-neighbour",
  "icmp6-addr-unreachable",
  "icmp6-port-unreachable",
  "echo-reply",
  "tcp-reset",
  "icmp6-policy-fail",
  "icmp6-reject-route",
] as const;

/** struct ipt_reject_info, struct ip6t_reject_info: with 0. */
export const REJECT: XtDescription<string> = describe({
  name: "REJECT",
  revisions: [0],
  read(info, _revision, { family }) {
    const number = info.u32(0);
    return (family === "ip" ? IPV4 : IPV6)[number] ?? `${number}`;
  },
  options: (answer) => [option("--reject-with", answer)],
});
