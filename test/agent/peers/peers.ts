/** What others do to a node, as they do it: commands of theirs, rulesets as they load them, the products themselves. */
import { rmSync, writeFileSync } from "node:fs";
import type { AdmissionDoor } from "../../../src/admission/doors.ts";
import type { NetworkNamespace } from "../../../src/kernel/namespace.ts";
import { UPLINK } from "../../attachment/world.ts";
import { startFirewalld, type HouseOfProducts } from "../../support/products.ts";
import { ask } from "../../support/witness.ts";

/** The node that they act on. */
export interface Scene {
  readonly node: NetworkNamespace;
  /** `10.213.0.1/24`, of the pods' bridge. */
  readonly gateway: string;
  /** The node's end of the pod's link. */
  readonly port: string;
  /** Where firewalld and ufw are installed; undefined where they could not be fetched. */
  readonly house: HouseOfProducts | undefined;
}

export interface Peer {
  readonly name: string;
  readonly acts: (scene: Scene) => void | Promise<void>;
  /** Takes away what nobody but the peer itself may take away; a door that is open makes no difference to it. */
  readonly leaves?: (scene: Scene) => void | Promise<void>;
  /** What of ours is put back; absent where nothing of ours is hit. */
  readonly object?: (scene: Scene) => string;
  /** The process that is named for it. */
  readonly culprit?: string;
  /** Programs that it may have started itself. */
  readonly alsoNamed?: readonly string[];
  /** Stops new connections for good, but where this door is open. */
  readonly door?: AdmissionDoor;
  /** The address of those that last is taken away: they may be cut. */
  readonly cuts?: true;
}

const SHOP = `flush ruleset
table inet shop {
  chain forward {
    type filter hook forward priority 0; policy accept;
  }
}
`;
const EMPTY_NAT = "*nat\n:PREROUTING ACCEPT\n:POSTROUTING ACCEPT\nCOMMIT\n";
/** As kube-proxy writes them at its start. */
const KUBE_PROXY = `*nat
:KUBE-SERVICES - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
COMMIT
`;
/** As Docker writes them at its start: what is no container's is not forwarded any more. */
const DOCKER = `*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A DOCKER-USER -j RETURN
COMMIT
*nat
:DOCKER - [0:0]
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
COMMIT
`;
/** What an early version of ours wrote: the same table, with a chain of its own making. */
const OLDER_WAYOUT = `table inet wayout
delete table inet wayout
table inet wayout {
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr 10.213.0.0/24 ip daddr != 10.213.0.0/24 masquerade
  }
}
`;
const SYSCTL_FILE = "/etc/sysctl.d/zz-hardening.conf";
const OFF = "net.ipv4.ip_forward = 0\nnet.ipv6.conf.all.forwarding = 0\n";

const table = (): string => "table inet wayout";

export const PEERS: readonly Peer[] = [
  {
    name: "nft flush ruleset",
    acts: ({ node }) => void ask(node, ["nft", "flush", "ruleset"]),
    object: table,
    culprit: "nft",
  },
  {
    name: "nft -f with flush",
    acts: ({ node }) => void ask(node, ["nft", "-f", "-"], SHOP),
    leaves: ({ node }) => void ask(node, ["nft", "delete", "table", "inet", "shop"]),
    object: table,
    culprit: "nft",
  },
  {
    name: "iptables -F -t nat",
    acts: ({ node }) => {
      ask(node, [
        "iptables",
        "-w",
        "5",
        "-t",
        "nat",
        "-A",
        "POSTROUTING",
        "-s",
        "198.18.0.0/15",
        "-j",
        "ACCEPT",
      ]);
      ask(node, ["iptables", "-w", "5", "-t", "nat", "-F"]);
    },
    culprit: "iptables",
  },
  {
    name: "iptables-restore",
    acts: ({ node }) => void ask(node, ["iptables-restore", "-w", "5"], EMPTY_NAT),
    culprit: "iptables-restor",
  },
  {
    name: "sysctl --system with forwarding off",
    acts: ({ node }) => {
      writeFileSync(SYSCTL_FILE, OFF);
      // The other files of the machine say more than what is a node's.
      ask(node, ["sysctl", "-q", "--system", "--pattern", "^net.ipv[46].(ip_forward|conf.all.forwarding)$"]);
    },
    leaves: () => rmSync(SYSCTL_FILE, { force: true }),
    object: () => "net.ipv4.ip_forward",
    culprit: "sysctl",
  },
  {
    name: "the bridge's address removed",
    acts: ({ node, gateway }) => void ask(node, ["ip", "address", "delete", gateway, "dev", "wayout0"]),
    object: ({ gateway }) => `address ${gateway} on wayout0`,
  },
  {
    name: "the uplink's address removed and back",
    acts: ({ node }) => {
      ask(node, ["ip", "address", "flush", "dev", "up0", "scope", "global"]);
      ask(node, ["ip", "address", "add", `${UPLINK.v4}/24`, "dev", "up0"]);
      ask(node, ["ip", "address", "add", `${UPLINK.other4}/24`, "dev", "up0"]);
      ask(node, ["ip", "route", "replace", "default", "via", "203.0.113.1"]);
    },
    cuts: true,
  },
  {
    name: "a port off the bridge",
    acts: ({ node, port }) => void ask(node, ["ip", "link", "set", port, "nomaster"]),
    object: ({ port }) => `port ${port} of wayout0`,
  },
  {
    name: "the default route deleted and back",
    acts: ({ node }) => {
      ask(node, ["ip", "route", "delete", "default"]);
      ask(node, ["ip", "route", "add", "default", "via", "203.0.113.1"]);
    },
  },
  {
    name: "kube-proxy",
    acts: ({ node }) => void ask(node, ["iptables-restore", "-w", "5", "--noflush"], KUBE_PROXY),
    leaves: ({ node }) => void ask(node, ["iptables-restore", "-w", "5"], EMPTY_NAT),
    culprit: "iptables-restor",
  },
  {
    name: "Docker",
    acts: ({ node }) => void ask(node, ["iptables-restore", "-w", "5", "--noflush"], DOCKER),
    leaves: ({ node }) => {
      ask(node, ["iptables-restore", "-w", "5"], "*filter\n:FORWARD ACCEPT\nCOMMIT\n");
      ask(node, ["iptables-restore", "-w", "5"], EMPTY_NAT);
    },
    door: "docker-user",
    culprit: "iptables-restor",
  },
  {
    name: "our table deleted by name",
    acts: ({ node }) => void ask(node, ["nft", "delete", "table", "inet", "wayout"]),
    object: table,
    culprit: "nft",
  },
  {
    name: "an older version of ours",
    acts: ({ node }) => void ask(node, ["nft", "-f", "-"], OLDER_WAYOUT),
    culprit: "nft",
  },
];

let firewalld: Awaited<ReturnType<typeof startFirewalld>> | undefined;

/** Those that come as products. They take seconds to start. */
export const PRODUCTS: readonly Peer[] = [
  {
    name: "firewalld started and reloaded",
    acts: async ({ house }) => {
      firewalld = await startFirewalld(house!);
      house!.ask("firewall-cmd", "--reload");
    },
    leaves: async () => {
      firewalld?.kill("SIGTERM");
      await firewalld?.exited;
    },
    door: "firewalld-zone",
    culprit: "firewalld",
    alsoNamed: ["iptables-restor", "ip6tables-resto"],
  },
  {
    name: "ufw",
    acts: ({ house }) => void house!.ask("ufw", "--force", "enable"),
    leaves: ({ house }) => void house!.ask("ufw", "disable"),
    door: "ufw-route",
  },
];
