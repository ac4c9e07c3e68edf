/**
 * Rulesets in the shape that products give them, for a node whose pods (lan0, 10.0.0.0/24) have a way out beside them.
 * Written from what each product's rules look like, not copied from any.
 */
export interface ProductRuleset {
  readonly product: string;
  /** For `nft -f`. */
  readonly nft?: string;
  /** For `iptables-nft-restore --noflush`. */
  readonly iptables?: string;
  /** For `ipset restore`. */
  readonly ipset?: string;
}

export const PRODUCT_RULESETS: readonly ProductRuleset[] = [
  {
    product: "Docker, iptables",
    iptables: `*filter
:FORWARD DROP [0:0]
:DOCKER - [0:0]
:DOCKER-BRIDGE - [0:0]
:DOCKER-CT - [0:0]
:DOCKER-FORWARD - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:DOCKER-ISOLATION-STAGE-2 - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-FORWARD
-A DOCKER ! -i docker0 -o docker0 -j DROP
-A DOCKER-BRIDGE -o docker0 -j DOCKER
-A DOCKER-CT -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A DOCKER-FORWARD -j DOCKER-CT
-A DOCKER-FORWARD -j DOCKER-ISOLATION-STAGE-1
-A DOCKER-FORWARD -j DOCKER-BRIDGE
-A DOCKER-FORWARD -i docker0 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
-A DOCKER-USER -i lan0 -j ACCEPT
-A DOCKER-USER -o lan0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i docker0 -p tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
COMMIT
`,
  },
  {
    product: "Docker, nftables",
    nft: `table ip docker-bridges {
  map filter-forward-in-jumps { type ifname : verdict; elements = { "docker0" : jump filter-forward-in__docker0 } }
  map nat-postrouting-out-jumps { type ifname : verdict; elements = { "docker0" : jump nat-postrouting-out__docker0 } }
  chain filter-forward-in__docker0 { ct state established,related counter accept; iifname "docker0" counter accept; counter drop; }
  chain nat-postrouting-out__docker0 { oifname != "docker0" ip saddr 172.17.0.0/16 counter masquerade comment "MASQUERADE"; }
  chain filter-FORWARD { type filter hook forward priority filter; policy accept;
    oifname vmap @filter-forward-in-jumps; }
  chain nat-POSTROUTING { type nat hook postrouting priority srcnat; policy accept;
    iifname vmap @nat-postrouting-out-jumps; }
  chain raw-PREROUTING { type filter hook prerouting priority raw; policy accept;
    ip daddr 172.17.0.2 iifname != "docker0" counter drop; }
}`,
  },
  {
    product: "podman, netavark",
    nft: `table inet netavark {
  chain INPUT { type filter hook input priority filter; policy accept;
    ip saddr 10.88.0.0/16 meta l4proto { tcp, udp } th dport 53 accept; }
  chain NETAVARK-ISOLATION-1 { iifname "podman0" oifname != "podman0" jump NETAVARK-ISOLATION-2; }
  chain NETAVARK-ISOLATION-2 { oifname "podman0" drop; }
  chain NETAVARK-ISOLATION-3 { oifname "podman0" drop; jump NETAVARK-ISOLATION-2; }
  chain FORWARD { type filter hook forward priority filter; policy accept;
    ct state invalid drop
    ct mark & 0x00001000 == 0x00001000 accept
    jump NETAVARK-ISOLATION-1
    ip daddr 10.88.0.0/16 ct state established,related accept
    ip saddr 10.88.0.0/16 accept; }
  chain nv_2f259bab_10_88_0_0_nm16 { ip daddr 10.88.0.0/16 accept; ip daddr != 224.0.0.0/4 masquerade; }
  chain POSTROUTING { type nat hook postrouting priority srcnat; policy accept;
    meta mark & 0x00002000 == 0x00002000 masquerade
    ip saddr 10.88.0.0/16 jump nv_2f259bab_10_88_0_0_nm16; }
  chain PREROUTING { type nat hook prerouting priority dstnat; policy accept;
    fib daddr type local accept; }
}`,
  },
  {
    product: "kube-proxy, iptables",
    iptables: `*filter
:KUBE-FIREWALL - [0:0]
:KUBE-FORWARD - [0:0]
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A INPUT -j KUBE-FIREWALL
-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block incoming localnet connections" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
*nat
:KUBE-MARK-MASQ - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-NPX46M4PTMTKRN6Y - [0:0]
:KUBE-SEP-AAAAAAAAAAAAAAAA - [0:0]
:KUBE-SEP-BBBBBBBBBBBBBBBB - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
-A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m comment --comment "default/kubernetes:https cluster IP" -m tcp --dport 443 -j KUBE-SVC-NPX46M4PTMTKRN6Y
-A KUBE-SVC-NPX46M4PTMTKRN6Y ! -s 10.0.0.0/24 -d 10.96.0.1/32 -p tcp -m tcp --dport 443 -j KUBE-MARK-MASQ
-A KUBE-SVC-NPX46M4PTMTKRN6Y -m statistic --mode random --probability 0.5 -j KUBE-SEP-AAAAAAAAAAAAAAAA
-A KUBE-SVC-NPX46M4PTMTKRN6Y -j KUBE-SEP-BBBBBBBBBBBBBBBB
-A KUBE-SEP-AAAAAAAAAAAAAAAA -p tcp -m tcp -j DNAT --to-destination 203.0.113.1:6443
-A KUBE-SEP-BBBBBBBBBBBBBBBB -p tcp -m tcp -j DNAT --to-destination 203.0.113.1:6444
COMMIT
`,
  },
  {
    product: "kube-proxy, nftables",
    nft: `table ip kube-proxy {
  set cluster-ips { type ipv4_addr; elements = { 10.96.0.1 } }
  map service-ips { type ipv4_addr . inet_proto . inet_service : verdict
    elements = { 10.96.0.1 . tcp . 443 : goto service-2QRHZV4L-default/kubernetes/tcp/https } }
  chain cluster-ips-check { ip daddr @cluster-ips reject; }
  chain mark-for-masquerade { meta mark set meta mark | 0x00004000; }
  chain endpoint-1 { meta l4proto tcp dnat to 203.0.113.1:6443; }
  chain endpoint-2 { meta l4proto tcp dnat to 203.0.113.1:6444; }
  chain service-2QRHZV4L-default/kubernetes/tcp/https {
    ip daddr 10.96.0.1 tcp dport 443 ip saddr != 10.0.0.0/24 jump mark-for-masquerade
    numgen random mod 2 vmap { 0 : goto endpoint-1, 1 : goto endpoint-2 }; }
  chain services { ip daddr . meta l4proto . th dport vmap @service-ips; }
  chain masquerading {
    meta mark & 0x00004000 == 0 return
    meta mark set meta mark ^ 0x00004000
    masquerade fully-random; }
  chain filter-forward { type filter hook forward priority -110; policy accept; ct state new jump cluster-ips-check; }
  chain nat-prerouting { type nat hook prerouting priority dstnat; policy accept; jump services; }
  chain nat-postrouting { type nat hook postrouting priority srcnat; policy accept; jump masquerading; }
}`,
  },
  {
    product: "kindnet",
    nft: `table inet kindnet-ipmasq {
  set noMasqV4 { type ipv4_addr; flags interval; auto-merge; elements = { 10.244.0.0/16, 10.96.0.0/16 } }
  set noMasqV6 { type ipv6_addr; flags interval; auto-merge; elements = { fd00:10:244::/56 } }
  chain postrouting { type nat hook postrouting priority srcnat - 10; policy accept;
    ct state established,related accept
    fib daddr type local accept
    ip daddr @noMasqV4 accept
    ip6 daddr @noMasqV6 accept
    masquerade
    counter; }
}`,
  },
  {
    product: "flannel, nftables",
    nft: `table ip flannel-ipv4 {
  chain forward { type filter hook forward priority filter; policy accept;
    ip saddr 10.244.0.0/16 accept
    ip daddr 10.244.0.0/16 accept; }
  chain postrtg { type nat hook postrouting priority srcnat; policy accept;
    meta mark 0x00004000 return
    ip saddr 10.244.1.0/24 ip daddr 10.244.0.0/16 return
    ip saddr 10.244.0.0/16 ip daddr 10.244.1.0/24 return
    ip saddr != 10.244.1.0/24 ip daddr 10.244.1.0/24 return
    ip saddr 10.244.0.0/16 ip daddr != 224.0.0.0/4 masquerade fully-random
    ip saddr != 10.244.0.0/16 ip daddr 10.244.0.0/16 masquerade fully-random; }
}`,
  },
  {
    product: "Calico, iptables",
    ipset: `create cali40masq-ipam-pools hash:net family inet
add cali40masq-ipam-pools 10.244.0.0/16
create cali40all-ipam-pools hash:net family inet
add cali40all-ipam-pools 10.244.0.0/16
`,
    iptables: `*filter
:cali-FORWARD - [0:0]
:cali-from-wl-dispatch - [0:0]
-A FORWARD -m comment --comment "cali:wUHhoiAYhphO9Mso" -j cali-FORWARD
-A cali-FORWARD -m comment --comment "cali:vjrMJCRpqwy5oRoX" -j MARK --set-xmark 0x0/0xe0000
-A cali-FORWARD -i cali+ -m comment --comment "cali:8ZoYfO5HKXWbB3pk" -j cali-from-wl-dispatch
-A cali-FORWARD -m comment --comment "cali:MH9kMp5aNICL-Olv" -m mark --mark 0x10000/0x10000 -j ACCEPT
-A cali-from-wl-dispatch -m comment --comment "cali:zTj6P0TIgYvgz-md Unknown interface" -j DROP
COMMIT
*nat
:cali-POSTROUTING - [0:0]
:cali-nat-outgoing - [0:0]
-A POSTROUTING -m comment --comment "cali:O3lYWMrLQYEMJtB5" -j cali-POSTROUTING
-A cali-POSTROUTING -m comment --comment "cali:Z-c7XtVd2Bq7s_hA" -j cali-nat-outgoing
-A cali-nat-outgoing -m comment --comment "cali:flqWnvo8yq4ULQLa" -m set --match-set cali40masq-ipam-pools src -m set ! --match-set cali40all-ipam-pools dst -j MASQUERADE --random-fully
COMMIT
`,
  },
  {
    product: "firewalld",
    nft: `table inet firewalld {
  chain filter_FORWARD { type filter hook forward priority filter + 10; policy accept;
    ct state { established, related } accept
    ct status dnat accept
    iifname "lo" accept
    ct state invalid drop
    jump filter_FORWARD_POLICIES
    reject with icmpx admin-prohibited; }
  chain filter_FORWARD_POLICIES {
    iifname "lan0" jump filter_FWD_trusted
    iifname "up0" jump filter_FWD_public; }
  chain filter_FWD_trusted { accept; }
  chain filter_FWD_public { reject with icmpx admin-prohibited; }
  chain mangle_PREROUTING { type filter hook prerouting priority mangle + 10; policy accept; }
  chain nat_POSTROUTING { type nat hook postrouting priority srcnat + 10; policy accept; jump nat_POST_ZONES; }
  chain nat_POST_ZONES { oifname "up0" goto nat_POST_public; }
  chain nat_POST_public { return; }
  chain filter_IPV6_RPFILTER { type filter hook prerouting priority -290; policy accept;
    icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept
    meta nfproto ipv6 fib saddr . mark . iif oif missing drop; }
}`,
  },
  {
    product: "ufw",
    iptables: `*filter
:FORWARD DROP [0:0]
:ufw-after-forward - [0:0]
:ufw-before-forward - [0:0]
:ufw-before-logging-forward - [0:0]
:ufw-reject-forward - [0:0]
:ufw-user-forward - [0:0]
-A FORWARD -j ufw-before-logging-forward
-A FORWARD -j ufw-before-forward
-A FORWARD -j ufw-after-forward
-A FORWARD -j ufw-reject-forward
-A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-forward -p icmp -m icmp --icmp-type 3 -j ACCEPT
-A ufw-before-forward -j ufw-user-forward
-A ufw-before-logging-forward -m conntrack --ctstate NEW -m limit --limit 3/min --limit-burst 10 -j LOG --log-prefix "[UFW AUDIT] "
-A ufw-user-forward -i lan0 -o up0 -j ACCEPT
COMMIT
`,
  },
];
