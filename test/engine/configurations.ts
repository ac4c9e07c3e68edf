/** Network configurations of every kind, well and ill, as texts: what a runtime hands in. */
const DUAL = {
  type: "host-local",
  ranges: [[{ subnet: "10.75.0.0/24" }], [{ subnet: "fd00:75::/64" }]],
  routes: [{ dst: "0.0.0.0/0" }, { dst: "::/0" }],
};

/** A text stays as it is; of an object `name` is put in by who calls. */
type Kind = Readonly<Record<string, unknown>> | string;

export const KINDS: Readonly<Record<string, Kind>> = {
  plain: {},
  "two families": { ipam: DUAL },
  "ports published": {
    ipam: DUAL,
    capabilities: { portMappings: true },
    runtimeConfig: { portMappings: [{ hostPort: 8080, containerPort: 80, protocol: "tcp" }] },
  },
  "version 0.1.0": { cniVersion: "0.1.0" },
  "version 0.3.1": { cniVersion: "0.3.1" },
  "version 1.0.0": { cniVersion: "1.0.0" },
  "by iptables": { ipMasqBackend: "iptables" },
  "sender checked": { macspoofchk: true },
  vlan: { vlan: 100, isGateway: false, isDefaultGateway: false, ipMasq: false, ipam: {} },
  "layer 2": { isGateway: false, isDefaultGateway: false, ipMasq: false, ipam: {} },
  "mtu and hairpin": { mtu: 1400, hairpinMode: true },
  "static addresses": {
    cniVersion: "1.0.0",
    ipam: { type: "static", addresses: [{ address: "10.75.0.9/24", gateway: "10.75.0.1" }] },
  },
  dns: { dns: { nameservers: ["10.0.0.1"], domain: "a", search: ["a.b"], options: ["ndots:5"] } },
  "unknown version": { cniVersion: "9.9.9" },
  "prefix too long": { ipam: { type: "host-local", subnet: "10.75.0.0/33" } },
  "no such ipam": { ipam: { type: "nosuch" } },
  "unknown key": { bridgee: "x" },
  "no json": '{"cniVersion": "1.0.0", ',
  "a trailing comma": '{"cniVersion": "1.0.0",}',
  "two values": '{"cniVersion": "1.0.0"} {}',
  empty: "",
  "a list": "[]",
  null: "null",
  deep: `{"cniVersion":"1.0.0","name":"x","type":"wayout","args":${"[".repeat(500)}${"]".repeat(500)}}`,
  "a name too long": { name: "n".repeat(120) },
  "a name of other letters": { name: "nä\u{1f600}" },
  "half a surrogate": '{"cniVersion":"1.1.0","name":"\\ud83d","type":"wayout"}',
  "mtu too large": { mtu: 1e21 },
  "mtu negative": { mtu: -5 },
  "mtu a part": { mtu: 1400.5 },
  "mtu a text": { mtu: "1400" },
  "bridge of no name": { bridge: "a/b" },
  "key of the prototype": '{"cniVersion":"1.1.0","name":"p","type":"wayout","__proto__":{"ipMasq":true}}',
};

/** The input of one kind for a network of this name. */
export function inputOf(kind: Kind, name: string): string {
  if (typeof kind === "string") return kind;
  return JSON.stringify({
    cniVersion: "1.1.0",
    name,
    type: "wayout",
    bridge: "cni0",
    isDefaultGateway: true,
    ipMasq: true,
    ipam: { type: "host-local", subnet: "10.75.0.0/24" },
    ...kind,
  });
}
