/** Numbers that rtnetlink gives names to, and the names that the field (and iproute2) uses for them. */

/** A closed list of numbered names, readable both ways. A number without a name is kept as decimal text. */
export interface NumberedNames<N extends string> {
  readonly numbers: Readonly<Record<N, number>>;
  readonly nameOf: (number: number) => N | `${number}`;
  readonly numberOf: (name: N | `${number}`) => number;
}

export function numberedNames<const T extends Readonly<Record<string, number>>>(
  numbers: T,
): NumberedNames<keyof T & string> {
  type N = keyof T & string;
  let names: Map<number, N> | undefined;
  const invert = (): Map<number, N> => {
    names = new Map();
    for (const name in numbers) names.set(numbers[name]!, name);
    return names;
  };
  return {
    numbers,
    nameOf: (number) => (names ?? invert()).get(number) ?? `${number}`,
    numberOf: (name) =>
      Object.hasOwn(numbers, name) ? (numbers as Readonly<Record<string, number>>)[name]! : Number(name),
  };
}

/** A dump has thousands of objects and a handful of combinations of flags. */
const knownFlags = new WeakMap<object, Map<number, readonly string[]>>();

/** The names of the bits that are set, lowest first. A bit without a name appears as its hexadecimal value. */
export function flagNames<N extends string>(
  bits: Readonly<Record<N, number>>,
  value: number,
): readonly (N | string)[] {
  let known = knownFlags.get(bits);
  if (known === undefined) knownFlags.set(bits, (known = new Map()));
  let names = known.get(value);
  if (names === undefined) known.set(value, (names = namesOfBits(bits, value)));
  return names;
}

function namesOfBits<N extends string>(bits: Readonly<Record<N, number>>, value: number): (N | string)[] {
  const names: (N | string)[] = [];
  let rest = value;
  for (const name in bits) {
    const bit = bits[name];
    if ((value & bit) !== 0) names.push(name);
    rest &= ~bit;
  }
  for (let bit = 1; rest !== 0; bit *= 2) {
    if ((rest & bit) !== 0) names.push(`0x${bit.toString(16)}`);
    rest &= ~bit;
  }
  return names;
}

/** RT_SCOPE_* (include/uapi/linux/rtnetlink.h). */
export const scopes = numberedNames({ global: 0, site: 200, link: 253, host: 254, nowhere: 255 });
export type RouteScope = "global" | "site" | "link" | "host" | "nowhere" | `${number}`;

/** RTPROT_*: who made a route or a rule. */
export const routeProtocols = numberedNames({
  unspec: 0,
  redirect: 1,
  kernel: 2,
  boot: 3,
  static: 4,
  gated: 8,
  ra: 9,
  mrt: 10,
  zebra: 11,
  bird: 12,
  dnrouted: 13,
  xorp: 14,
  ntk: 15,
  dhcp: 16,
  mrouted: 17,
  keepalived: 18,
  babel: 42,
  openr: 99,
  bgp: 186,
  isis: 187,
  ospf: 188,
  rip: 189,
  eigrp: 192,
});
export type RouteProtocol = keyof typeof routeProtocols.numbers | `${number}`;

/** Clock ticks a second in what the kernel tells (USER_HZ): the same on every architecture that wayout runs on. */
export const USER_HZ = 100;

/** RTN_*: what a route does with a packet (include/uapi/linux/rtnetlink.h). */
export const RTN = {
  unspec: 0,
  unicast: 1,
  local: 2,
  broadcast: 3,
  anycast: 4,
  multicast: 5,
  blackhole: 6,
  unreachable: 7,
  prohibit: 8,
  throw: 9,
  nat: 10,
  xresolve: 11,
} as const;

/** RT_TABLE_*: the tables that every kernel has. */
export const RT_TABLE = { default: 253, main: 254, local: 255 } as const;

/** Names that every iproute2 knows; others are numbers. */
export function routingTableText(table: number): string {
  if (table === RT_TABLE.local) return "local";
  if (table === RT_TABLE.main) return "main";
  return table === RT_TABLE.default ? "default" : String(table);
}
