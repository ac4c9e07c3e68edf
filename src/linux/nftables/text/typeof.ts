/**
 * What `typeof` was written for a set's key or data. nft notes it in the set's user data, as nested TLVs that name the
 * expression (libnftnl's udata; the numbers are nft's own enums).
 */
import { HEADERS, type HeaderName } from "../fields.ts";
import {
  CT_DIRECTIONS,
  CT_KEYS,
  EXTHDR_OPS,
  FIB_FLAGS,
  META_KEYS,
  RT_KEYS,
  SOCKET_KEYS,
} from "../enumerations.ts";
import { itemNumber, readUserdata, type UserdataItem } from "../userdata.ts";
import { hexText } from "../values.ts";
import { exthdrText } from "./extensions.ts";
import { ctText, ctType, loadedValue, metaText, metaType, sized } from "./loads.ts";
import { Protocols } from "./protocols.ts";
import type { Value } from "./registers.ts";

/** enum expr_types of nft */
const EXPR_PAYLOAD = 7;
const EXPR_EXTHDR = 8;
const EXPR_META = 9;
const EXPR_SOCKET = 10;
const EXPR_OSF = 11;
const EXPR_CT = 12;
const EXPR_CONCAT = 13;
const EXPR_NUMGEN = 23;
const EXPR_RT = 25;
const EXPR_FIB = 26;

/** enum proto_desc_id of nft */
const PROTOCOLS: readonly (HeaderName | undefined)[] = [
  undefined,
  "ah",
  "esp",
  "comp",
  "icmp",
  "igmp",
  "udp",
  "udplite",
  "tcp",
  "dccp",
  "sctp",
  "th",
  "ip",
  "ip6",
  "icmpv6",
  "arp",
  "vlan",
  "ether",
];

/** nft has two numbers for the one bit of VLAN's drop eligible indicator. */
const VLAN_FIELDS = ["pcp", "dei", "dei", "id", "type"] as const;

const reversed = (table: Readonly<Record<string, number>>): ReadonlyMap<number, string> =>
  new Map(Object.entries(table).map(([name, number]) => [number, name]));
const META_NAMES = reversed(META_KEYS);
const CT_NAMES = reversed(CT_KEYS);
const CT_DIRECTION_NAMES = reversed(CT_DIRECTIONS);
const RT_NAMES = reversed(RT_KEYS);
const SOCKET_NAMES = reversed(SOCKET_KEYS);
const EXTHDR_NAMES = reversed(EXTHDR_OPS);

/** The parts of the key or data; undefined when `type` was written, or when nft noted something unknown. */
export function typeofValues(item: UserdataItem | undefined): readonly Value[] | undefined {
  if (item === undefined) return undefined;
  const whole = expressionItems(item);
  if (whole === undefined) return undefined;
  if (whole.kind !== EXPR_CONCAT) {
    const value = valueOf(whole);
    return value === undefined ? undefined : [value];
  }
  const parts: Value[] = [];
  for (const entry of whole.fields) {
    const one = expressionItems(entry);
    const value = one === undefined ? undefined : valueOf(one);
    if (value === undefined) return undefined;
    parts.push(value);
  }
  return parts.length === 0 ? undefined : parts;
}

interface Noted {
  readonly kind: number;
  readonly fields: readonly UserdataItem[];
}

function expressionItems(item: UserdataItem): Noted | undefined {
  const items = readUserdata(hexText(item.bytes));
  const kind = items?.find((one) => one.type === 0);
  const data = items?.find((one) => one.type === 1);
  if (kind === undefined) return undefined;
  return {
    kind: itemNumber(kind),
    fields: data === undefined ? [] : (readUserdata(hexText(data.bytes)) ?? []),
  };
}

function valueOf(noted: Noted): Value | undefined {
  const number = (type: number): number | undefined => {
    const found = noted.fields.find((field) => field.type === type);
    return found === undefined ? undefined : itemNumber(found);
  };
  switch (noted.kind) {
    case EXPR_PAYLOAD:
      return payloadOf(number(0) ?? 0, number(1) ?? 0);
    case EXPR_META:
      return named(META_NAMES.get(number(0) ?? -1), (key) => [metaText(key), metaType(key)]);
    case EXPR_CT:
      return ctOf(CT_NAMES.get(number(0) ?? -1), CT_DIRECTION_NAMES.get(number(1) ?? -1));
    case EXPR_RT:
      return loaded({ kind: "rt", dreg: 1, key: RT_NAMES.get(number(0) ?? -1) as never });
    case EXPR_SOCKET:
      return loaded({
        kind: "socket",
        dreg: 1,
        key: SOCKET_NAMES.get(number(0) ?? -1) as never,
        level: number(1) ?? 0,
      });
    case EXPR_OSF:
      return loaded({ kind: "osf", dreg: 1 });
    case EXPR_FIB:
      return fibOf(number(0) ?? 0, number(1) ?? 0);
    case EXPR_NUMGEN:
      return loaded({
        kind: "numgen",
        dreg: 1,
        type: number(0) === 0 ? "inc" : "random",
        modulus: number(1) ?? 1,
        offset: number(2) ?? 0,
      });
    case EXPR_EXTHDR:
      return extensionOf(number(0) ?? 0, number(1) ?? 0, EXTHDR_NAMES.get(number(2) ?? 0));
    default:
      return undefined;
  }
}

function named(
  key: string | undefined,
  make: (key: string) => readonly [string, Value["types"][number]],
): Value | undefined {
  if (key === undefined) return undefined;
  const [text, type] = make(key);
  return { text, types: [type], size: type.size };
}

function loaded(expression: Parameters<typeof loadedValue>[0]): Value | undefined {
  return loadedValue(expression, new Protocols("inet"))?.value;
}

function payloadOf(protocol: number, field: number): Value | undefined {
  const header = PROTOCOLS[protocol];
  if (header === undefined) return undefined;
  const name = header === "vlan" ? VLAN_FIELDS[field - 1] : Object.keys(HEADERS[header])[field - 1];
  if (name === undefined) return undefined;
  const place = (HEADERS[header] as Readonly<Record<string, { type: string; length: number }>>)[name]!;
  const type = sized(place.type, Math.ceil(place.length / 8));
  return { text: `${header} ${name}`, types: [type], size: type.size };
}

function ctOf(key: string | undefined, direction: string | undefined): Value | undefined {
  if (key === undefined) return undefined;
  const type = ctType(key);
  const withDirection = direction === undefined ? {} : { direction: direction as keyof typeof CT_DIRECTIONS };
  return {
    text: ctText({ key: key as keyof typeof CT_KEYS, ...withDirection }),
    types: [type],
    size: type.size,
  };
}

function fibOf(result: number, flags: number): Value | undefined {
  const names = Object.entries(FIB_FLAGS)
    .filter(([, bit]) => (flags & bit) !== 0)
    .map(([name]) => name as keyof typeof FIB_FLAGS);
  const results = [undefined, "oif", "oifname", "type"] as const;
  const found = results[result];
  return found === undefined ? undefined : loaded({ kind: "fib", dreg: 1, result: found, flags: names });
}

/** nft notes the extension and the number of its field; only those whose fields lie one after the other are found. */
function extensionOf(extension: number, _field: number, op: string | undefined): Value | undefined {
  const location = { type: extension, op: (op ?? "ipv6") as keyof typeof EXTHDR_OPS, offset: 0, length: 1 };
  const { text, type } = exthdrText(location);
  return { text, types: [type], size: type.size };
}
