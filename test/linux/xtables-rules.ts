/**
 * Rules for every xtables match and target that is understood, as iptables-save writes them. They are what the printer
 * is held against iptables with, and what the predictor's judgement is held against the kernel with.
 */

export interface XtablesSample {
  readonly name: string;
  readonly table: "filter" | "nat" | "mangle" | "raw";
  readonly chain: string;
  /** What stands between the chain and the target (a match), or the target with its options. */
  readonly rules: readonly string[];
  readonly family?: 6;
  /** Why this machine's kernel or iptables may refuse it. */
  readonly mayLack?: string;
}

function match(name: string, rules: readonly string[], more: Partial<XtablesSample> = {}): XtablesSample {
  return { name, table: "filter", chain: "FORWARD", rules, ...more };
}

function target(name: string, rules: readonly string[], more: Partial<XtablesSample> = {}): XtablesSample {
  return { name, table: "mangle", chain: "PREROUTING", rules, ...more };
}

const OUTPUT = { chain: "OUTPUT" } as const;
const IPV6 = { family: 6 } as const;

export const MATCH_SAMPLES: readonly XtablesSample[] = [
  match("addrtype", [
    "-m addrtype --src-type LOCAL --limit-iface-in",
    "-m addrtype --dst-type UNICAST",
    "-m addrtype ! --src-type LOCAL,BROADCAST ! --dst-type MULTICAST",
  ]),
  match("ah", ["-p ah -m ah --ahspi 1:5", "-p ah -m ah ! --ahspi 7"]),
  match("bpf", ['-m bpf --bytecode "4,48 0 0 9,21 0 1 6,6 0 0 1,6 0 0 0"']),
  match("cgroup", ["-m cgroup --cgroup 5", "-m cgroup ! --cgroup 5"], OUTPUT),
  match("cluster", [
    "-m cluster --cluster-local-nodemask 0x00000001 --cluster-total-nodes 2 --cluster-hash-seed 0x00000005",
  ]),
  match("comment", ['-m comment --comment "two words"', "-m comment --comment word"]),
  match("connbytes", ["-m connbytes --connbytes 1000:2000 --connbytes-mode bytes --connbytes-dir both"]),
  match("connlabel", ['-m connlabel --label "1"']),
  match("connlimit", [
    "-m connlimit --connlimit-above 10 --connlimit-mask 24 --connlimit-saddr",
    "-m connlimit --connlimit-upto 10 --connlimit-mask 32 --connlimit-daddr",
  ]),
  match("connmark", ["-m connmark --mark 0x1/0x3", "-m connmark ! --mark 0x5"]),
  match("conntrack", [
    "-m conntrack --ctstate NEW",
    "-m conntrack ! --ctstate RELATED,ESTABLISHED",
    "-m conntrack --ctstate SNAT",
    "-m conntrack --ctproto 6 --ctorigsrc 10.0.0.0/8 --ctdir REPLY",
    "-m conntrack --ctorigdstport 80:443",
    "-m conntrack ! --ctorigdst 198.51.100.101 --ctdir ORIGINAL",
    "-m conntrack --ctrepldst 203.0.113.0/24",
    "-m conntrack --ctstatus SEEN_REPLY,ASSURED",
    "-m conntrack --ctexpire 5:10",
  ]),
  match("cpu", ["-m cpu --cpu 1"]),
  match("dccp", ["-p dccp -m dccp --dport 80", "-p dccp -m dccp --sport 1:5 --dccp-types REQUEST,DATA"]),
  match("devgroup", [
    "-m devgroup --src-group default",
    "-m devgroup ! --dst-group 0x5/0xff",
    "-m devgroup --src-group 0x7",
  ]),
  match("dscp", ["-m dscp --dscp 0x2e", "-m dscp ! --dscp 0x00"]),
  match("ecn", ["-m ecn --ecn-ip-ect 1", "-p tcp -m ecn --ecn-tcp-cwr", "-m ecn ! --ecn-ip-ect 0"]),
  match("esp", ["-p esp -m esp --espspi 1:5"]),
  match("frag", ["-m frag --fragid 1:5 --fragmore", "-m frag --fragfirst"], IPV6),
  match("hashlimit", [
    "-m hashlimit --hashlimit-above 2/min --hashlimit-burst 2 --hashlimit-mode dstip,dstport --hashlimit-name t2",
    "-m hashlimit --hashlimit-upto 200/sec --hashlimit-burst 9 --hashlimit-mode srcip --hashlimit-name t3 --hashlimit-htable-expire 30000 --hashlimit-srcmask 24",
    "-m hashlimit --hashlimit-above 512kb/s --hashlimit-name t4",
  ]),
  match("helper", ["-m helper --helper ftp", "-m helper ! --helper ftp"]),
  match("hl", ["-m hl --hl-eq 5", "-m hl ! --hl-eq 5", "-m hl --hl-lt 9"], IPV6),
  match("icmp", [
    "-p icmp -m icmp --icmp-type 8",
    "-p icmp -m icmp ! --icmp-type 3/4",
    "-p icmp -m icmp --icmp-type any",
  ]),
  match(
    "icmp6",
    ["-p ipv6-icmp -m icmp6 --icmpv6-type 128", "-p ipv6-icmp -m icmp6 ! --icmpv6-type 1/3"],
    IPV6,
  ),
  match("iprange", [
    "-m iprange --src-range 10.0.0.1-10.0.0.9",
    "-m iprange ! --dst-range 198.51.100.100-198.51.100.150",
  ]),
  match("length", ["-m length --length 1:500", "-m length ! --length 40", "-m length --length 60:65535"]),
  match("limit", ["-m limit --limit 10/min --limit-burst 7", "-m limit --limit 5/sec"]),
  match("mac", ["-m mac --mac-source 02:00:00:00:00:01", "-m mac ! --mac-source 02:00:00:00:00:01"]),
  match("mark", ["-m mark --mark 0x1", "-m mark ! --mark 0x0/0x3"]),
  match("multiport", [
    "-p tcp -m multiport --dports 80,443,8000:9000",
    "-p udp -m multiport ! --sports 53,1000:2000",
    "-p tcp -m multiport --ports 8080",
  ]),
  match("nfacct", ["-m nfacct --nfacct-name  acc"], { mayLack: "an nfacct object" }),
  match(
    "owner",
    [
      "-m owner ! --uid-owner 1000",
      "-m owner --uid-owner 0",
      "-m owner --socket-exists --uid-owner 0-5 --gid-owner 7",
      "-m owner ! --socket-exists",
    ],
    OUTPUT,
  ),
  match("physdev", [
    "-m physdev --physdev-in veth+ --physdev-is-bridged",
    "-m physdev --physdev-is-in",
    "-m physdev ! --physdev-in veth-blue",
  ]),
  match("pkttype", ["-m pkttype ! --pkt-type multicast", "-m pkttype --pkt-type unicast"]),
  match("policy", [
    "-m policy --dir out --pol ipsec",
    "-m policy --dir in --pol none",
    "-m policy --dir out --pol ipsec --strict --reqid 1 --proto esp --mode tunnel --tunnel-dst 192.0.2.4 --tunnel-src 192.0.2.3 --next --reqid 2",
  ]),
  match("quota", ["-m quota --quota 1000", "-m quota ! --quota 5000"]),
  match("realm", ["-m realm --realm 0x3/0xff", "-m realm ! --realm 0x3"]),
  match("recent", [
    "-m recent --rcheck --seconds 60 --hitcount 3 --name bad --mask 255.255.255.255 --rsource",
    "-m recent --set --name seen --mask 255.255.255.255 --rdest",
    "-m recent ! --update --seconds 5 --reap --rttl --name DEFAULT --mask 255.255.255.0 --rsource",
  ]),
  match("rpfilter", ["-m rpfilter", "-m rpfilter --invert", "-m rpfilter --loose --validmark --invert"], {
    table: "raw",
    chain: "PREROUTING",
  }),
  match("sctp", [
    "-p sctp -m sctp --sport 1:5 ! --dport 80 --chunk-types any DATA,INIT",
    "-p sctp -m sctp --dport 36412",
  ]),
  match("set", [
    "-m set --match-set nets src",
    "-m set ! --match-set nets dst",
    "-m set ! --match-set nets dst --return-nomatch ! --update-counters --packets-gt 5",
    "-p tcp -m set --match-set pairs dst,dst",
  ]),
  match("socket", ["-m socket", "-m socket --transparent --nowildcard --restore-skmark"], {
    table: "mangle",
    chain: "PREROUTING",
  }),
  match("statistic", [
    "-m statistic --mode random --probability 0.25000000000",
    "-m statistic --mode nth --every 3 --packet 1",
  ]),
  match("string", [
    '-m string --string "GET /x" --algo bm',
    '-m string ! --hex-string "|0a0b6162|" --algo kmp --from 20 --to 100 --icase',
  ]),
  match("tcp", [
    "-p tcp -m tcp --dport 80",
    "-p tcp -m tcp --sport 1000:30000 ! --dport 443",
    "-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN",
    "-p tcp -m tcp ! --tcp-flags SYN,ACK SYN",
    "-p tcp -m tcp --tcp-option 8",
  ]),
  match("tcpmss", ["-p tcp -m tcpmss --mss 1:500", "-p tcp -m tcpmss ! --mss 1300"]),
  match("time", [
    "-m time --timestart 08:00:00 --timestop 18:00:00 --weekdays Mon,Tue --datestop 2038-01-19T03:14:07 --kerneltz",
    "-m time --monthdays 1,15 --datestart 2026-01-01T00:00:00 --datestop 2038-01-19T03:14:07",
  ]),
  match("tos", ["-m tos --tos 0x10/0x3f", "-m tos ! --tos 0x00/0x3f"]),
  match("ttl", ["-m ttl --ttl-lt 5", "-m ttl --ttl-eq 63", "-m ttl ! --ttl-eq 63", "-m ttl --ttl-gt 60"]),
  match("u32", [
    '-m u32 --u32 "0x6&0xff=0x6&&0x0>>0x16&0x3c@0x0>>0x8&0xff=0x0:0x5,0x7"',
    '-m u32 ! --u32 "0x0&0xffff=0x1"',
  ]),
  match("udp", ["-p udp -m udp --dport 53:100", "-p udp -m udp ! --sport 1:100"]),
];

const NAT = (chain: string): Partial<XtablesSample> => ({ table: "nat", chain });
const RAW = { table: "raw" } as const;
const LACKING = { mayLack: "a security module, or this hook" } as const;

export const TARGET_SAMPLES: readonly XtablesSample[] = [
  target("AUDIT", ["-j AUDIT --type drop"]),
  target("CHECKSUM", ["-p udp -j CHECKSUM --checksum-fill"]),
  target("CLASSIFY", ["-j CLASSIFY --set-class 0001:0002"], { chain: "POSTROUTING", ...LACKING }),
  target("CONNMARK", [
    "-j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff",
    "-j CONNMARK --set-xmark 0x5/0xff",
    "-j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff --left-shift-mark 3",
  ]),
  target("CONNSECMARK", ["-j CONNSECMARK --save"], LACKING),
  target(
    "CT",
    [
      "-j CT --notrack",
      "-j NOTRACK",
      "-j CT --zone 5",
      "-j CT --zone-orig 6",
      "-j CT --zone-reply mark",
      "-p tcp -j CT --helper ftp",
      "-p tcp -j CT --ctevents new,destroy",
    ],
    RAW,
  ),
  target(
    "DNAT",
    [
      "-p tcp -j DNAT --to-destination 192.0.2.7:80",
      "-p tcp -j DNAT --to-destination 192.0.2.7:5000-5010/8000",
      "-j DNAT --to-destination 192.0.2.7-192.0.2.9 --random --persistent",
    ],
    NAT("PREROUTING"),
  ),
  target("DSCP", ["-j DSCP --set-dscp 0x0a"]),
  target("HL", ["-j HL --hl-set 5", "-j HL --hl-dec 1"], IPV6),
  target("LOG", ['-j LOG --log-prefix "hello " --log-level 7 --log-uid', "-j LOG"]),
  target("MARK", ["-j MARK --set-xmark 0x1/0xffffffff", "-j MARK --set-xmark 0x4/0x4"]),
  target(
    "MASQUERADE",
    ["-j MASQUERADE", "-j MASQUERADE --random-fully", "-p tcp -j MASQUERADE --to-ports 1000-2000"],
    NAT("POSTROUTING"),
  ),
  target("NETMAP", ["-d 192.0.2.0/24 -j NETMAP --to 198.51.100.0/24"], NAT("PREROUTING")),
  target("NFLOG", ['-j NFLOG --nflog-prefix "a b" --nflog-group 2', "-j NFLOG --nflog-size 64"]),
  target("NFQUEUE", ["-j NFQUEUE --queue-num 3", "-j NFQUEUE --queue-balance 0:3 --queue-bypass"]),
  target("REDIRECT", ["-p tcp -j REDIRECT --to-ports 99", "-j REDIRECT"], NAT("PREROUTING")),
  target(
    "REJECT",
    ["-j REJECT --reject-with icmp-port-unreachable", "-p tcp -j REJECT --reject-with tcp-reset"],
    {
      table: "filter",
      chain: "FORWARD",
    },
  ),
  target("SECMARK", ["-j SECMARK --selctx system_u:object_r:x:s0"], LACKING),
  target("SET", [
    "-j SET --add-set nets src --exist --timeout 30",
    "-j SET --del-set nets dst",
    "-j SET --map-set nets src --map-mark",
  ]),
  target(
    "SNAT",
    [
      "-j SNAT --to-source 203.0.113.77",
      "-j SNAT --to-source 203.0.113.5-203.0.113.9 --random --persistent",
      "-p tcp -j SNAT --to-source :5-9",
    ],
    NAT("POSTROUTING"),
  ),
  target("SYNPROXY", ["-p tcp -j SYNPROXY --sack-perm --timestamp --wscale 7 --mss 1460"], {
    table: "filter",
    chain: "FORWARD",
  }),
  target("TCPMSS", ["-p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --set-mss 1300"]),
  target("TCPMSS", ["-p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu"], {
    chain: "FORWARD",
  }),
  target("TCPOPTSTRIP", ["-p tcp -j TCPOPTSTRIP --strip-options 2,3"]),
  target("TEE", ["-j TEE --gateway 203.0.113.9"]),
  target("TOS", ["-j TOS --set-tos 0x10/0xff"]),
  target("TPROXY", ["-p tcp -j TPROXY --on-port 15001 --on-ip 127.0.0.1 --tproxy-mark 0x1/0x1"]),
  target("TRACE", ["-j TRACE"], RAW),
  target("TTL", ["-j TTL --ttl-set 5", "-j TTL --ttl-inc 1", "-j TTL --ttl-dec 63"]),
];

/** Names that iptables writes as something else, or not at all: state is a conntrack match, NOTRACK a CT target. */
export const WRITTEN_OTHERWISE: ReadonlySet<string> = new Set(["state", "NOTRACK"]);

/** A whole rule, as `iptables-save` has it. */
export function ruleLine({ chain }: Pick<XtablesSample, "chain">, rule: string, verdict?: string): string {
  return `-A ${chain} ${rule}${verdict === undefined ? "" : ` -j ${verdict}`}`;
}
