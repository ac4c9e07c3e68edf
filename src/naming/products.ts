/**
 * Whose rule is this? How each product's rules can be recognised, as data: one entry a fingerprint. Only for telling
 * people; nobody's rules but our own are ever changed. Our own are known to `nat/`, and told apart in rules/owner.ts.
 */
import { present } from "../present.ts";

/** What there is to see of a rule. */
export interface RuleTraits {
  /** nf_tables family; iptables and ip6tables rules, whatever their kind, have `ip` and `ip6`. */
  readonly family: string;
  readonly table: string;
  readonly chain: string;
  /** Chain that the rule jumps or goes to. */
  readonly target?: string;
  readonly comment?: string;
  /** The rule as nft or iptables prints it. */
  readonly text: string;
}

/** Whose a rule is that no product on this list writes. */
export const UNKNOWN_OWNER = "unknown (no product that wayout knows writes such a rule)";

export interface Owner {
  /** The product as its users call it. */
  readonly product: string;
  /** What of the product: a network, a container, a purpose. */
  readonly detail?: string;
  /** `likely`: other products could make the same rule. */
  readonly confidence: "sure" | "likely";
}

/** Every pattern that is given must match. Named groups of the comment's pattern become the detail. */
export interface Fingerprint {
  readonly product: string;
  readonly confidence?: "likely";
  /** `family name`, e.g. `inet netavark`. */
  readonly table?: RegExp;
  /** The rule's chain, or the one it leads to. */
  readonly chain?: RegExp;
  readonly comment?: RegExp;
  readonly text?: RegExp;
  readonly detail?: string;
}

/** What a person wrote in Kubernetes: the cure is there as well. */
const NETWORK_POLICY = { detail: "a NetworkPolicy" } as const;

/** The first that matches wins: what is unmistakable comes before what several products could write. */
export const FINGERPRINTS: readonly Fingerprint[] = [
  // CNI reference plugins (containernetworking/plugins): bridge and ptp with ipMasq, portmap, firewall.
  { product: "CNI masquerade", comment: /^name: "(?<network>[^"]*)" id: "(?<container>[^"]*)"/ },
  {
    product: "CNI masquerade",
    table: /^inet cni_plugins_masquerade$/,
    comment: /net: (?<network>[^,]*), if: [^,]*, id: (?<container>[^,]*)/,
  },
  { product: "CNI masquerade", table: /^inet cni_plugins_masquerade$/ },
  { product: "CNI portmap", table: /^ip6? cni_hostport$/, comment: /^(?<container>\S+)$/ },
  { product: "CNI portmap", table: /^ip6? cni_hostport$/ },
  { product: "CNI portmap", chain: /^CNI-(HOSTPORT-|DN-|SN-)/ },
  { product: "CNI firewall", chain: /^CNI-(FORWARD|ADMIN|ISOLATION-STAGE-\d)$/ },
  { product: "CNI masquerade", chain: /^CNI-[0-9a-f]{24}$/ },
  { product: "CNI bridge", comment: /^macspoofchk-/, detail: "its check of the pod's MAC address" },
  { product: "CNI bridge", chain: /^cni-br-iface-/, detail: "its check of the pod's MAC address" },

  // Agents that masquerade for a whole node.
  { product: "ip-masq-agent", chain: /^IP-MASQ(-AGENT)?$/ },
  { product: "ip-masq-agent", comment: /^ip-masq(-agent)?:/ },
  { product: "kindnet", table: /^inet kindnet/ },
  { product: "kindnet", chain: /^KIND-MASQ-AGENT$/ },

  // Kubernetes and its networks.
  { product: "kube-proxy", table: /^ip6? kube-proxy$/ },
  {
    product: "kube-proxy",
    chain: /^KUBE-(SVC|SEP|FW|XLB|EXT|SVL|SERVICES|NODEPORTS|POSTROUTING|MARK-MASQ|LOAD-BALANCER|NODE-PORT)/,
  },
  { product: "kubelet", chain: /^KUBE-(KUBELET-CANARY|IPTABLES-HINT|MARK-DROP|FIREWALL|PROXY-CANARY)$/ },
  { product: "flannel", table: /^ip6? flannel-ipv[46]$/ },
  { product: "flannel", chain: /^FLANNEL-/ },
  { product: "flannel", comment: /^flanneld (masq|forward)$/ },
  { product: "Calico", table: /^ip6? calico$/ },
  { product: "Calico", chain: /^cali-/ },
  { product: "Calico", comment: /^cali:/ },
  { product: "Cilium", chain: /^OLD_CILIUM_/, detail: "left over from a failed update" },
  { product: "Cilium", chain: /^CILIUM_/ },
  { product: "Cilium", comment: /^cilium[ -]/ },
  { product: "kube-router", chain: /^KUBE-(ROUTER-|NWPLCY|POD-FW-)/, ...NETWORK_POLICY },
  { product: "kube-router", text: /kube-router-/ },
  { product: "kube-router", comment: /kube-router netpol/, ...NETWORK_POLICY },
  { product: "kube-proxy", chain: /^KUBE-(EXTERNAL-SERVICES|PROXY-FIREWALL)$/ },
  { product: "kube-network-policies", table: /^inet kube-network-policies$/, ...NETWORK_POLICY },
  { product: "Istio", chain: /^ISTIO_/ },
  { product: "Linkerd", chain: /^PROXY_INIT_/ },
  { product: "Weave", chain: /^WEAVE/ },
  { product: "Antrea", chain: /^ANTREA-/ },
  { product: "AWS VPC CNI", chain: /^AWS-(SNAT|CONNMARK)-CHAIN-\d+$/ },
  { product: "AWS VPC CNI", comment: /^AWS[, ]/ },

  // Container engines and virtual machines.
  { product: "netavark", table: /^inet netavark$/, chain: /^nv_(?<network>[0-9a-f]{8})_/ },
  { product: "netavark", table: /^inet netavark$/ },
  { product: "netavark", chain: /^NETAVARK-/ },
  { product: "Docker", table: /^ip6? docker-bridges$/ },
  { product: "Docker", chain: /^DOCKER(-|$)/ },
  {
    product: "Docker",
    table: /^ip6? raw$/,
    chain: /^PREROUTING$/,
    text: /^-d \S+ ! -i (docker\d+|docker_gwbridge|br-[0-9a-f]{12}) -j DROP$/,
    detail: "direct access to a container that publishes nothing",
  },
  { product: "Docker", text: /(!= "?|! -o |oifname "?|-o )(docker\d+|docker_gwbridge|br-[0-9a-f]{12})\b/ },
  { product: "libvirt", table: /^ip6? libvirt_network$/ },
  { product: "libvirt", chain: /^LIBVIRT_/ },
  { product: "LXD", table: /^inet lxd$/ },
  { product: "Incus", table: /^inet incus$/ },
  { product: "LXD", comment: /^generated for LXD network (?<network>\S+)/ },
  { product: "Incus", comment: /^generated for Incus network (?<network>\S+)/ },

  // Firewalls and tunnels.
  { product: "Tailscale", chain: /^ts-(postrouting|forward|input)$/ },
  { product: "firewalld", table: /^(inet|ip6?) firewalld$/ },
  {
    product: "firewalld",
    chain:
      /^(nat_)?(POST|PRE)(_[a-zA-Z0-9-]+)?(_(log|deny|allow|pre|post|ZONES|policies_(pre|post)))?$|^POSTROUTING_(direct|ZONES)/,
  },
  {
    product: "firewalld",
    chain:
      /^FWD[IO]?_|^IN_\w+_(log|deny|allow|pre|post)$|^(FORWARD|INPUT|OUTPUT)_(direct$|ZONES$|IN_ZONES|OUT_ZONES|POLICIES_)/,
  },
  { product: "ufw", chain: /^ufw6?-/ },
  { product: "fail2ban", table: /^(inet|ip6?) f2b-table$/ },
  { product: "fail2ban", chain: /^f2b-(?<jail>.+)$/ },
  { product: "fail2ban", text: /@addr6?-set-|--match-set f2b-/ },
  { product: "CrowdSec", table: /^(ip|ip6) crowdsec6?$/ },
  { product: "CrowdSec", chain: /^CROWDSEC_CHAIN$/ },
  { product: "CrowdSec", text: /--match-set crowdsec/ },
  { product: "Cloud Foundry's silk", chain: /^(netout|overlay|input)--/ },
  { product: "OpenWrt", table: /^inet fw4$/ },
  { product: "mwan3", chain: /^mwan3_/ },
  { product: "Azure NPM", chain: /^AZURE-NPM/ },
  { product: "NixOS", table: /^inet nixos-fw$/ },
  { product: "NixOS", chain: /^nixos-fw(-|$)/ },
  { product: "Mullvad", table: /^inet mullvad$/ },
  { product: "NetBird", chain: /^NETBIRD-/ },
  { product: "NetBird", table: /^ip6? netbird$/ },
  { product: "OpenStack Neutron", chain: /^neutron-/ },
  { product: "FireHOL", text: /--match-set firehol_/, confidence: "likely" },
  { product: "systemd-networkd", table: /^(ip|ip6) io\.systemd\.nat$/ },
  { product: "wg-quick", table: /^ip6? wg-quick-/ },

  { product: "Cloudflare WARP", table: /^inet cloudflare-warp$/ },
  { product: "NordVPN", comment: /^nordvpn\b/ },
  { product: "NordVPN", table: /^inet nordvpn$/ },
  { product: "Private Internet Access", chain: /^piavpn\./ },
  { product: "ExpressVPN", chain: /^x?vpn\.|^evpn\./ },
  { product: "Windscribe", chain: /^windscribe_/ },
  { product: "OpenVPN Access Server", chain: /^AS0_/ },
  { product: "sshuttle", chain: /^sshuttle-/ },
  { product: "sshuttle", table: /^\w+ sshuttle-/ },
  { product: "sing-box", table: /^inet sing-box$/ },
  { product: "mihomo (Clash)", table: /^inet (mihomo|clash|openclash)$/ },
  { product: "mihomo (Clash)", chain: /^(openclash|clash)(_|$)/ },
  { product: "v2rayA", table: /^inet v2raya$/ },
  { product: "OpenSnitch", table: /^inet opensnitch$/ },
  { product: "Portmaster", chain: /^PORTMASTER-/ },
  { product: "SSHGuard", chain: /^sshguard$/ },
  { product: "SSHGuard", table: /^(inet|ip6?) sshguard$/ },
  { product: "CSF (ConfigServer)", chain: /^G?(DENY|ALLOW)(IN|OUT)$|^LOCAL(IN|OUT)PUT$|^LOGDROP(IN|OUT)$/ },
  { product: "VyOS", table: /^(inet|bridge|ip6?) vyos_/ },
  { product: "UniFi", chain: /^UBIOS_/ },
  { product: "Proxmox VE", chain: /^PVEFW-|^(tap|veth)\d+i\d+-(IN|OUT)$/ },
  { product: "Proxmox VE", table: /^(inet|bridge) proxmox-firewall/ },
  { product: "Oracle Cloud's image", chain: /^(BareMetal)?InstanceServices$/ },
  { product: "Shorewall", chain: /^(net|loc|dmz|fw)(2|-)(net|loc|dmz|fw|all)$/, confidence: "likely" },
  { product: "LXC", table: /^(inet|ip6?) lxc$/ },
  { product: "Nomad", chain: /^NOMAD-/ },
  { product: "Consul", chain: /^CONSUL_/ },
  { product: "KubeVirt", chain: /^KUBEVIRT_/ },
  { product: "OVN-Kubernetes", chain: /^OVN-KUBE-/ },
  { product: "OVN-Kubernetes", table: /^inet ovn-kubernetes$/ },
  { product: "Kube-OVN", chain: /^OVN-(PREROUTING|POSTROUTING|MASQUERADE|NAT|OUTPUT)/ },
  { product: "Submariner", chain: /^SUBMARINER-/ },
  { product: "Kilo", chain: /^KILO-/ },

  // Last: names that many share.
  {
    product: "Docker",
    confidence: "likely",
    text: /saddr 172\.1[7-9]\.0\.0\/16 .*masquerade|-s 172\.1[7-9]\.0\.0\/16 .*MASQUERADE/,
  },
];

/** undefined when no product is recognised: a person, or a product that is not in the list. */
export function productOf(
  traits: RuleTraits,
  prints: readonly Fingerprint[] = FINGERPRINTS,
): Owner | undefined {
  for (const { print, own } of printsOf(prints, `${traits.family} ${traits.table}`, traits.chain)) {
    const chain = own ?? (traits.target === undefined ? null : print.chain?.exec(traits.target));
    if (print.chain !== undefined && !chain) continue;
    const comment = print.comment?.exec(traits.comment ?? "");
    if (comment === null) continue;
    if (print.text?.test(traits.text) === false) continue;
    const groups = { ...chain?.groups, ...comment?.groups };
    const named = Object.entries(groups).map(([name, value]) => `${name} ${value}`);
    const detail =
      print.detail ?? (named.length === 0 ? wayoutDetail(print.product, traits.comment) : named.join(", "));
    return present({
      product: print.product,
      detail,
      confidence: print.confidence ?? "sure",
    });
  }
  return undefined;
}

/** Our own comments begin with the owner's name (claim.ts). */
function wayoutDetail(product: string, comment: string | undefined): string | undefined {
  if (product !== "wayout" || comment === undefined || comment.startsWith("wayout:")) return undefined;
  return comment.split(" ")[0];
}

interface Candidate {
  readonly print: Fingerprint;
  /** What its pattern for chains makes of the rule's own; where that is nothing, the rule's target may do. */
  readonly own: RegExpExecArray | null | undefined;
}

/** Rules are asked for chain by chain, and what the names of table and chain say is the same for all of one chain. */
let lastAsked:
  | {
      readonly among: readonly Fingerprint[];
      readonly table: string;
      readonly chain: string;
      readonly prints: readonly Candidate[];
    }
  | undefined;

function printsOf(among: readonly Fingerprint[], table: string, chain: string): readonly Candidate[] {
  if (lastAsked?.among !== among || lastAsked.table !== table || lastAsked.chain !== chain) {
    const prints = among
      .filter((print) => print.table?.test(table) !== false)
      .map((print) => ({
        print,
        own: print.chain?.exec(chain),
      }));
    lastAsked = { among, table, chain, prints };
  }
  return lastAsked.prints;
}
