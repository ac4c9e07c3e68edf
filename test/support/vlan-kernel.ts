/**
 * Runs the plugin as on a kernel with bridge VLAN filtering, which the real one may lack. What the plugin asks for about
 * VLANs is written down and acknowledged (refused, where a line contains REFUSED); all the rest goes to the real kernel.
 *
 *     RECORD=FILE REFUSED=TEXT bun vlan-kernel.ts      # a CNI call in the environment and on standard input
 *
 * A line a request, in the words of `ip link` and `bridge vlan`; a port by its index. The bytes are read here by hand,
 * not by the code that wrote them.
 */
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { runPlugin } from "../../src/cni/main.ts";
import { NETLINK_ROUTE, openTransport, type NetlinkTransport } from "../../src/kernel/netlink/transport.ts";
import { acknowledgement } from "./scripted-transport.ts";

/** include/uapi/linux/rtnetlink.h, if_link.h, if_bridge.h */
const [RTM_NEWLINK, RTM_DELLINK, RTM_SETLINK, AF_BRIDGE, EOPNOTSUPP] = [16, 17, 19, 7, 95];
const [IFLA_IFNAME, IFLA_LINKINFO, IFLA_INFO_DATA, IFLA_AF_SPEC] = [3, 18, 2, 26];
const [IFLA_BR_VLAN_FILTERING, IFLA_BR_VLAN_DEFAULT_PVID] = [7, 39];
const [IFLA_BRIDGE_FLAGS, IFLA_BRIDGE_VLAN_INFO] = [0, 2];
const [PVID, UNTAGGED, RANGE_BEGIN, RANGE_END] = [2, 4, 8, 16];
/** Beyond what a bridge knows; the kernel passes over it. */
const UNKNOWN_ATTRIBUTE = 0x3ff0;
/** struct nlmsghdr, struct ifinfomsg */
const HEADERS = 32;

interface Attribute {
  readonly type: number;
  /** Of the attribute's header, in the message. */
  readonly at: number;
  readonly end: number;
}

function attributes(view: DataView, from: number, to: number): Attribute[] {
  const found: Attribute[] = [];
  for (let at = from; at + 4 <= to;) {
    const length = view.getUint16(at, true);
    found.push({ type: view.getUint16(at + 2, true) & 0x3fff, at, end: at + length });
    at += (length + 3) & ~3;
  }
  return found;
}

/** The attributes inside one that is reached by these types. */
function within(view: DataView, ...path: readonly number[]): Attribute[] {
  let level = attributes(view, HEADERS, view.byteLength);
  for (const type of path) {
    const next = level.find((attribute) => attribute.type === type);
    if (next === undefined) return [];
    level = attributes(view, next.at + 4, next.end);
  }
  return level;
}

function nameOf(view: DataView): string {
  const name = within(view).find(({ type }) => type === IFLA_IFNAME);
  if (name === undefined) return String(view.getInt32(20, true));
  const bytes = new Uint8Array(view.buffer, view.byteOffset + name.at + 4, name.end - name.at - 4);
  return Buffer.from(bytes).toString().replace(/\0$/, "");
}

/** What a bridge is told about VLANs; the real kernel is not told. */
function takeBridgeSettings(view: DataView): string[] {
  return within(view, IFLA_LINKINFO, IFLA_INFO_DATA).flatMap(({ type, at }) => {
    const setting =
      type === IFLA_BR_VLAN_FILTERING
        ? `vlan_filtering ${view.getUint8(at + 4)}`
        : type === IFLA_BR_VLAN_DEFAULT_PVID
          ? `vlan_default_pvid ${view.getUint16(at + 4, true)}`
          : undefined;
    if (setting === undefined) return [];
    view.setUint16(at + 2, UNKNOWN_ATTRIBUTE, true);
    return [`ip link set ${nameOf(view)} type bridge ${setting}`];
  });
}

function vlanCommands(view: DataView): string[] {
  const verb = view.getUint16(4, true) === RTM_SETLINK ? "add" : "del";
  const inside = within(view, IFLA_AF_SPEC);
  const flags = inside.find(({ type }) => type === IFLA_BRIDGE_FLAGS);
  const whose = flags === undefined ? "" : ` flags ${view.getUint16(flags.at + 4, true)}`;
  const commands: string[] = [];
  let first: number | undefined;
  for (const { at } of inside.filter(({ type }) => type === IFLA_BRIDGE_VLAN_INFO)) {
    const [bits, vid] = [view.getUint16(at + 4, true), view.getUint16(at + 6, true)];
    if ((bits & RANGE_BEGIN) !== 0) first = vid;
    else {
      const vids = (bits & RANGE_END) === 0 ? String(vid) : `${first}-${vid}`;
      const marks = `${(bits & PVID) === 0 ? "" : " pvid"}${(bits & UNTAGGED) === 0 ? "" : " untagged"}`;
      commands.push(`bridge vlan ${verb} dev ${view.getInt32(20, true)} vid ${vids}${marks}${whose}`);
    }
  }
  return commands;
}

const record = process.env["RECORD"]!;
const refused = process.env["REFUSED"] ?? "";
let filtering = existsSync(record) && readFileSync(record, "utf8").includes("vlan_filtering 1");

/** Whether the kernel grants it. */
function write(lines: readonly string[]): boolean {
  appendFileSync(record, lines.map((line) => `${line}\n`).join(""));
  if (refused !== "" && lines.some((line) => line.includes(refused))) return false;
  filtering ||= lines.some((line) => line.endsWith("vlan_filtering 1"));
  return true;
}

/** What is asked about VLANs only is answered here; undefined: the (changed) datagram is the real kernel's to answer. */
function answer(datagram: Uint8Array): Uint8Array[] | undefined {
  const whole = new DataView(datagram.buffer, datagram.byteOffset, datagram.length);
  const answers: Uint8Array[] = [];
  let others = 0;
  for (let at = 0; at < datagram.length; at += (whole.getUint32(at, true) + 3) & ~3) {
    const view = new DataView(datagram.buffer, datagram.byteOffset + at, whole.getUint32(at, true));
    const [type, sequence] = [view.getUint16(4, true), view.getUint32(8, true)];
    const acknowledge = (errno: number): void => {
      const bytes = datagram.slice(at, at + view.byteLength);
      answers.push(acknowledgement({ type, flags: 0, sequence, bytes }, errno));
    };
    if ((type === RTM_SETLINK || type === RTM_DELLINK) && view.getUint8(16) === AF_BRIDGE) {
      acknowledge(write(vlanCommands(view)) ? 0 : EOPNOTSUPP);
    } else if (type === RTM_NEWLINK && !write(takeBridgeSettings(view))) acknowledge(EOPNOTSUPP);
    else others++;
  }
  if (answers.length > 0 && others > 0)
    throw new Error("a datagram about VLANs and other things: not foreseen");
  return answers.length > 0 ? answers : undefined;
}

/** Bridges that were told to filter say that they do. */
function markFiltering(datagram: Uint8Array): void {
  const whole = new DataView(datagram.buffer, datagram.byteOffset, datagram.length);
  for (let at = 0; at < datagram.length; at += (whole.getUint32(at, true) + 3) & ~3) {
    if (whole.getUint16(at + 4, true) !== RTM_NEWLINK) continue;
    const view = new DataView(datagram.buffer, datagram.byteOffset + at, whole.getUint32(at, true));
    const setting = within(view, IFLA_LINKINFO, IFLA_INFO_DATA).find(
      ({ type }) => type === IFLA_BR_VLAN_FILTERING,
    );
    // In other kinds of link the number means something else, of another size.
    if (setting !== undefined && setting.end === setting.at + 5) view.setUint8(setting.at + 4, 1);
  }
}

const probe = openTransport(NETLINK_ROUTE);
const sockets = Object.getPrototypeOf(probe) as NetlinkTransport;
probe.close();
const send: (this: NetlinkTransport, datagram: Uint8Array) => void = Reflect.get(sockets, "send");
const receive: (this: NetlinkTransport, timeoutMs: number) => Uint8Array | undefined = Reflect.get(
  sockets,
  "receive",
);
const waiting = new WeakMap<NetlinkTransport, Uint8Array[]>();

sockets.send = function (this: NetlinkTransport, datagram) {
  const changed = datagram.slice();
  const answers = answer(changed);
  if (answers === undefined) send.call(this, changed);
  else waiting.set(this, [...(waiting.get(this) ?? []), ...answers]);
};
sockets.receive = function (this: NetlinkTransport, timeoutMs) {
  const prepared = waiting.get(this)?.shift();
  if (prepared !== undefined) return prepared;
  const datagram = receive.call(this, timeoutMs);
  if (filtering && datagram !== undefined) markFiltering(datagram);
  return datagram;
};

process.exitCode = await runPlugin(process.env);
