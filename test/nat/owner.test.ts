/** Each product's rule, as its users see it, must be called by its name; and a person's rule by none. */
import { describe, expect, test } from "bun:test";
import type { RuleTraits } from "../../src/naming/products.ts";
import { ownerOf } from "../../src/rules/owner.ts";

const CONTAINER = "0123456789abcdef0123456789abcdef";
const CNI_CHAIN = "CNI-4f6dd6c0aa11bb22cc33dd44";

type Case = readonly [product: string, detail: string | undefined, traits: Partial<RuleTraits>];

const CASES: readonly Case[] = [
  ["wayout", undefined, { family: "inet", table: "wayout", chain: "postrouting" }],
  [
    "wayout",
    "cni/blue",
    { chain: "WAYOUT-5485791fd847ae4a", comment: "cni/blue source 10.9.0.0/24 masquerade" },
  ],
  [
    "wayout",
    undefined,
    { target: "WAYOUT-POSTROUTING", comment: "wayout: a way out for namespaces and pods" },
  ],
  [
    "CNI masquerade",
    `network podnet, container ${CONTAINER}`,
    { target: CNI_CHAIN, comment: `name: "podnet" id: "${CONTAINER}"` },
  ],
  ["CNI masquerade", undefined, { chain: CNI_CHAIN, text: "! -d 224.0.0.0/4 -j MASQUERADE" }],
  [
    "CNI masquerade",
    `network podnet, container ${CONTAINER}`,
    {
      family: "inet",
      table: "cni_plugins_masquerade",
      chain: "masq_checks",
      comment: `0123456789abcdef-0123456789abcdef, net: podnet, if: eth0, id: ${CONTAINER}`,
    },
  ],
  ["CNI portmap", undefined, { chain: "PREROUTING", target: "CNI-HOSTPORT-DNAT" }],
  ["CNI portmap", undefined, { chain: "CNI-DN-0a1b2" }],
  [
    "CNI portmap",
    `container ${CONTAINER}`,
    { family: "ip", table: "cni_hostport", chain: "hostports", comment: CONTAINER },
  ],
  [
    "ip-masq-agent",
    undefined,
    {
      target: "IP-MASQ-AGENT",
      comment:
        "ip-masq-agent: ensure nat POSTROUTING directs all non-LOCAL destination traffic to our custom IP-MASQ-AGENT chain",
    },
  ],
  [
    "ip-masq-agent",
    undefined,
    { chain: "IP-MASQ", comment: "ip-masq: local traffic is not subject to MASQUERADE" },
  ],
  ["kindnet", undefined, { family: "inet", table: "kindnet-ipmasq", chain: "postrouting" }],
  ["kube-proxy", undefined, { chain: "KUBE-POSTROUTING" }],
  ["kube-proxy", undefined, { target: "KUBE-SERVICES", comment: "kubernetes service portals" }],
  ["kube-proxy", undefined, { family: "ip", table: "kube-proxy", chain: "masquerading" }],
  ["kubelet", undefined, { chain: "KUBE-MARK-DROP" }],
  ["flannel", undefined, { target: "FLANNEL-POSTRTG", comment: "flanneld masq" }],
  ["flannel", undefined, { family: "ip6", table: "flannel-ipv6", chain: "postrtg" }],
  ["Calico", undefined, { chain: "cali-nat-outgoing", comment: "cali:flqWnvo8yq4ULQLa" }],
  ["Calico", undefined, { family: "ip", table: "calico", chain: "nat-cali-nat-outgoing" }],
  ["Cilium", undefined, { target: "CILIUM_POST_nat", comment: "cilium-feeder: CILIUM_POST_nat" }],
  [
    "Cilium",
    "left over from a failed update",
    { chain: "OLD_CILIUM_POST_nat", comment: "cilium masquerade non-cluster" },
  ],
  ["AWS VPC CNI", undefined, { chain: "AWS-SNAT-CHAIN-0", comment: "AWS SNAT CHAIN" }],
  ["Docker", undefined, { text: `-s 172.17.0.0/16 ! -o docker0 -j MASQUERADE` }],
  ["Docker", undefined, { text: `oifname != "br-0123456789ab" ip saddr 172.18.0.0/16 counter masquerade` }],
  ["Docker", undefined, { chain: "PREROUTING", target: "DOCKER" }],
  ["Docker", undefined, { family: "ip", table: "docker-bridges", chain: "nat-POSTROUTING" }],
  [
    "netavark",
    "network 2f259bab",
    { family: "inet", table: "netavark", chain: "nv_2f259bab_10_88_0_0_nm16" },
  ],
  [
    "netavark",
    undefined,
    {
      family: "inet",
      table: "netavark",
      chain: "POSTROUTING",
      text: "meta mark & 0x2000 == 0x2000 masquerade",
    },
  ],
  ["libvirt", undefined, { chain: "LIBVIRT_PRT" }],
  ["LXD", "network lxdbr0", { comment: "generated for LXD network lxdbr0" }],
  ["Tailscale", undefined, { target: "ts-postrouting" }],
  ["firewalld", undefined, { family: "inet", table: "firewalld", chain: "nat_POST_public_allow" }],
  ["firewalld", undefined, { table: "filter", chain: "FWDI_public" }],
  ["firewalld", undefined, { table: "filter", chain: "FORWARD", target: "FORWARD_IN_ZONES" }],
  ["CNI bridge", "its check of the pod's MAC address", { family: "bridge", comment: "macspoofchk-x-eth0" }],
  ["ufw", undefined, { chain: "ufw-before-output" }],
];

describe("whose rule", () => {
  for (const [product, detail, traits] of CASES) {
    const whole: RuleTraits = { family: "ip", table: "nat", chain: "POSTROUTING", text: "", ...traits };
    test(`${product}: ${whole.comment ?? (whole.text || whole.target) ?? `${whole.table} ${whole.chain}`}`, () => {
      const owner = ownerOf(whole);
      expect(owner).toMatchObject({ product, confidence: "sure" });
      expect(owner?.detail).toBe(detail);
    });
  }

  test("what only looks like Docker's is called likely", () => {
    const text = "-s 172.17.0.0/16 -o eth0 -j MASQUERADE";
    expect(ownerOf({ family: "ip", table: "nat", chain: "POSTROUTING", text })).toMatchObject({
      product: "Docker",
      confidence: "likely",
    });
  });

  test("a person's rule is nobody's", () => {
    for (const text of [
      "-s 10.0.0.0/24 -o eth0 -j MASQUERADE",
      "ip saddr 10.0.0.0/24 oifname eth0 masquerade",
      "-j SNAT --to-source 203.0.113.5",
    ]) {
      expect(ownerOf({ family: "ip", table: "nat", chain: "POSTROUTING", text })).toBeUndefined();
      expect(
        ownerOf({ family: "ip", table: "mynat", chain: "post", text, comment: "my lab" }),
      ).toBeUndefined();
    }
  });
});
