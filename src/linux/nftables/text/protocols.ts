/** Which headers a packet is known to have at a point of a rule, and which field lies where. */
import { datatypeNamed, type Datatype } from "../datatypes.ts";
import { HEADERS, type Field, type HeaderName } from "../fields.ts";
import type { Family } from "../ruleset.ts";
import type { Layer } from "./registers.ts";

const NETWORK_BY_ETHER_TYPE: Readonly<Record<string, HeaderName>> = {
  "0800": "ip",
  "0806": "arp",
  "86dd": "ip6",
};

const TRANSPORT_BY_PROTOCOL: Readonly<Record<string, HeaderName>> = {
  "01": "icmp",
  "02": "igmp",
  "06": "tcp",
  "11": "udp",
  "21": "dccp",
  "32": "esp",
  "33": "ah",
  "3a": "icmpv6",
  "6c": "comp",
  "84": "sctp",
  "88": "udplite",
};

const NONE: readonly string[] = [];
const IIFTYPE: readonly string[] = ["meta iiftype"];
const ETHER_TYPE: readonly string[] = ["ether type"];
const PROTOCOL: readonly string[] = ["meta protocol"];
const NFPROTO: readonly string[] = ["meta nfproto"];
const L4PROTO: readonly string[] = ["meta l4proto"];

export interface FoundField {
  readonly name: string;
  readonly field: Field;
  readonly type: Datatype;
  /** Conditions that nft puts before it by itself. */
  readonly implies: readonly string[];
}

/** Header layouts as lists, made once. */
const FIELDS: Readonly<Record<string, readonly (readonly [string, Field])[]>> = Object.fromEntries(
  Object.entries(HEADERS).map(([header, fields]) => [header, Object.entries(fields)]),
);

/** What was found before: fields are few, and look the same in every rule of a family. */
const foundFields: Readonly<Record<Family, Map<Field, FoundField>>> = {
  ip: new Map(),
  ip6: new Map(),
  inet: new Map(),
  arp: new Map(),
  bridge: new Map(),
  netdev: new Map(),
};

export class Protocols {
  #link: HeaderName[];
  #network: HeaderName | undefined;
  #transport: HeaderName | undefined;
  #icmpType: string | undefined;

  constructor(readonly family: Family) {
    this.#link = family === "bridge" || family === "netdev" ? ["ether"] : [];
    this.#network = family === "ip" || family === "ip6" || family === "arp" ? family : undefined;
  }

  /** Takes note of `text == data`; tells whether that is a condition on a protocol. */
  learn(text: string, data: string): boolean {
    switch (text) {
      case "meta nfproto":
        return this.#learnNetwork(data === "02" ? "ip" : data === "0a" ? "ip6" : undefined);
      case "meta protocol":
      case "ether type":
      case "vlan type":
        return this.#learnEtherType(data);
      case "meta l4proto":
      case "ip protocol":
      case "ip6 nexthdr":
        this.#transport = TRANSPORT_BY_PROTOCOL[data];
        return true;
      case "meta iiftype":
        if (data !== "0100") return false;
        this.#link = ["ether"];
        return true;
      case "icmp type":
      case "icmpv6 type":
        this.#icmpType = data;
        return true;
      default:
        return false;
    }
  }

  #learnNetwork(header: HeaderName | undefined): boolean {
    if (header === undefined) return false;
    this.#network = header;
    return true;
  }

  #learnEtherType(data: string): boolean {
    if (data === "8100" || data === "88a8") {
      this.#link = ["vlan", ...this.#link.filter((header) => header !== "vlan")];
      return true;
    }
    return this.#learnNetwork(NETWORK_BY_ETHER_TYPE[data]);
  }

  /** The conditions that nft puts before a field of a header by itself, where nothing else says so. */
  impliedBy(header: HeaderName, field = ""): readonly string[] {
    const isLink = this.family === "bridge" || this.family === "netdev";
    switch (header) {
      case "ether":
        return this.family === "bridge" ? NONE : IIFTYPE;
      case "vlan":
        return this.family === "bridge" ? ETHER_TYPE : ["meta iiftype", "ether type"];
      case "arp":
        return isLink ? ETHER_TYPE : NONE;
      case "ip":
      case "ip6":
        return isLink ? PROTOCOL : this.family === "inet" ? NFPROTO : NONE;
      case "icmp":
      case "icmpv6": {
        const network = isLink ? ETHER_TYPE : this.family === "inet" ? NFPROTO : NONE;
        const type = /^(?:mtu|gateway|param-problem|max-delay)$/.test(field) ? [`${header} type`] : [];
        return [...network, "meta l4proto", ...type];
      }
      case "th":
        return NONE;
      default:
        return L4PROTO;
    }
  }

  #headers(layer: Layer): readonly HeaderName[] {
    if (layer === "link") return this.#link;
    if (layer === "network") return this.#network === undefined ? [] : [this.#network];
    return [this.#transport ?? "th"];
  }

  /** The field that fills exactly these bits. */
  exact(layer: Layer, offset: number, length: number): FoundField | undefined {
    for (const header of this.#headers(layer)) {
      for (const [name, field] of FIELDS[header]!) {
        if (field.offset === offset && field.length === length && this.#applies(header, name)) {
          return this.#found(header, name, field);
        }
      }
    }
    return undefined;
  }

  #found(header: HeaderName, name: string, field: Field): FoundField {
    const known = foundFields[this.family];
    let found = known.get(field);
    if (found === undefined) {
      const implies = this.impliedBy(header, name);
      known.set(field, (found = { name: `${header} ${name}`, field, type: typeOf(field), implies }));
    }
    return found;
  }

  /** The field that begins at this bit and is longer than `length`: of which a prefix was loaded. */
  longer(layer: Layer, offset: number, length: number): FoundField | undefined {
    for (const header of this.#headers(layer)) {
      for (const [name, field] of FIELDS[header]!) {
        if (field.offset === offset && field.length > length) {
          return this.#found(header, name, field);
        }
      }
    }
    return undefined;
  }

  /** Fields that together fill exactly these bits: nft loads neighbours at once. */
  cover(layer: Layer, offset: number, length: number): FoundField[] | undefined {
    const found: FoundField[] = [];
    const end = offset + length;
    for (let at = offset; at < end;) {
      const next = this.#largest(layer, at, end - at);
      if (next === undefined) return undefined;
      found.push(next);
      at += next.field.length;
    }
    return found;
  }

  #largest(layer: Layer, offset: number, most: number): FoundField | undefined {
    let best: FoundField | undefined;
    for (const header of this.#headers(layer)) {
      for (const [name, field] of FIELDS[header]!) {
        if (field.offset !== offset || field.length > most || !this.#applies(header, name)) continue;
        if (field.length % 8 === 0 && (best === undefined || field.length > best.field.length)) {
          best = this.#found(header, name, field);
        }
      }
    }
    return best;
  }

  /** Some fields of ICMP share their place; the type, where the rule asked for it, tells which is meant. */
  #applies(header: HeaderName, name: string): boolean {
    if (header === "icmp" && (name === "gateway" || name === "mtu")) {
      return this.#icmpType === (name === "gateway" ? "05" : "03");
    }
    if (header === "icmp" && (name === "id" || name === "sequence")) {
      return this.#icmpType !== "03" && this.#icmpType !== "05";
    }
    if (header !== "icmpv6") return true;
    if (name === "param-problem" || name === "mtu") {
      return this.#icmpType === (name === "mtu" ? "02" : "04");
    }
    if (name === "max-delay") return /^8[234]$/.test(this.#icmpType ?? "");
    return name !== "id" || !/^8[234]$/.test(this.#icmpType ?? "");
  }
}

function typeOf(field: Field): Datatype {
  return { ...datatypeNamed(field.type)!, size: Math.ceil(field.length / 8) };
}
