/**
 * What a link leaves to its driver: checksums, segmentation (`ethtool -k`). Spoken over generic netlink, family
 * "ethtool" (include/uapi/linux/ethtool_netlink.h, Linux 5.9 and later).
 */
import type { NetworkNamespace } from "../namespace.ts";
import { attribute, AttributeSet, listOf, nested } from "../../linux/netlink/attributes.ts";
import { bytes, flag, string, struct, u16, u32 } from "../../linux/netlink/codec.ts";
import { NetlinkConnection } from "../netlink/connection.ts";
import { request, type MessageSpec } from "../../linux/netlink/message.ts";
import { NETLINK_GENERIC, openTransport } from "../netlink/transport.ts";
import { present } from "../../present.ts";

/** struct genlmsghdr (include/uapi/linux/genetlink.h). */
export const genlmsghdr = struct("genlmsghdr", { command: "u8", version: "u8", reserved: "u16" });

export const CTRL_CMD_GETFAMILY = 3;
export const ETHTOOL_MSG_FEATURES_GET = 11;
export const ETHTOOL_MSG_FEATURES_SET = 12;

/** CTRL_ATTR_*. */
export const controlAttributes = new AttributeSet(() => ({
  familyId: attribute("CTRL_ATTR_FAMILY_ID", 1, u16),
  familyName: attribute("CTRL_ATTR_FAMILY_NAME", 2, string),
}));

/** The family that knows the numbers of all others has a fixed one itself. */
const GENL_ID_CTRL = {
  name: "CTRL_CMD_GETFAMILY",
  type: 16,
  header: genlmsghdr,
  attributes: controlAttributes,
} as const satisfies MessageSpec;

export const headerAttributes = new AttributeSet(() => ({
  index: attribute("ETHTOOL_A_HEADER_DEV_INDEX", 1, u32),
  name: attribute("ETHTOOL_A_HEADER_DEV_NAME", 2, string),
  flags: attribute("ETHTOOL_A_HEADER_FLAGS", 3, u32),
}));

export const bitAttributes = new AttributeSet(() => ({
  index: attribute("ETHTOOL_A_BITSET_BIT_INDEX", 1, u32),
  name: attribute("ETHTOOL_A_BITSET_BIT_NAME", 2, string),
  value: attribute("ETHTOOL_A_BITSET_BIT_VALUE", 3, flag),
}));

export const bitsetAttributes = new AttributeSet(() => ({
  noMask: attribute("ETHTOOL_A_BITSET_NOMASK", 1, flag),
  size: attribute("ETHTOOL_A_BITSET_SIZE", 2, u32),
  bits: attribute(
    "ETHTOOL_A_BITSET_BITS",
    3,
    listOf(nested(bitAttributes), { name: "ETHTOOL_A_BITSET_BITS_BIT", number: 1 }),
  ),
  value: attribute("ETHTOOL_A_BITSET_VALUE", 4, bytes),
  mask: attribute("ETHTOOL_A_BITSET_MASK", 5, bytes),
}));

export const featuresAttributes = new AttributeSet(() => ({
  header: attribute("ETHTOOL_A_FEATURES_HEADER", 1, nested(headerAttributes)),
  hardware: attribute("ETHTOOL_A_FEATURES_HW", 2, nested(bitsetAttributes)),
  wanted: attribute("ETHTOOL_A_FEATURES_WANTED", 3, nested(bitsetAttributes)),
  active: attribute("ETHTOOL_A_FEATURES_ACTIVE", 4, nested(bitsetAttributes)),
  noChange: attribute("ETHTOOL_A_FEATURES_NOCHANGE", 5, nested(bitsetAttributes)),
}));

/**
 * The features that are on, by interface index, under the names `ethtool -k` has for them:
 * "tx-checksum-ip-generic", "tx-tcp-segmentation", "rx-gro"…
 * @throws NetlinkError ENOENT where the kernel has no ethtool over netlink
 */
export function readOffloads(namespace?: NetworkNamespace): Map<number, readonly string[]> {
  using connection = connect(namespace);
  const features = featuresMessage(connection);
  const dump = request(
    features,
    "reading the offloads",
    { command: ETHTOOL_MSG_FEATURES_GET, version: 1 },
    { header: {} },
  );
  const offloads = new Map<number, readonly string[]>();
  for (const { attributes } of connection.dump(dump, features)) {
    const index = attributes.header?.index;
    if (index === undefined) continue;
    offloads.set(
      index,
      (attributes.active?.bits ?? []).flatMap(({ name }) => name ?? []),
    );
  }
  return offloads;
}

/** Switches one feature. @throws NetlinkError EOPNOTSUPP and the like when the link cannot */
export function setOffload(
  namespace: NetworkNamespace | undefined,
  index: number,
  feature: string,
  on: boolean,
): void {
  using connection = connect(namespace);
  connection.request(
    request(
      featuresMessage(connection),
      `switching ${feature} ${on ? "on" : "off"} for link ${index}`,
      { command: ETHTOOL_MSG_FEATURES_SET, version: 1 },
      { header: { index }, wanted: { bits: [on ? { name: feature, value: true } : { name: feature }] } },
    ),
  );
}

function connect(namespace: NetworkNamespace | undefined): NetlinkConnection {
  return new NetlinkConnection(openTransport(NETLINK_GENERIC, present({ namespace })));
}

/** The message type of the family, which every kernel numbers anew. */
function featuresMessage(connection: NetlinkConnection) {
  const [family] = connection.request(
    request(
      GENL_ID_CTRL,
      "looking for the ethtool family",
      { command: CTRL_CMD_GETFAMILY, version: 1 },
      { familyName: "ethtool" },
    ),
    GENL_ID_CTRL,
  );
  return {
    name: "ETHTOOL_MSG_FEATURES",
    type: family?.attributes.familyId ?? 0,
    header: genlmsghdr,
    attributes: featuresAttributes,
  } as const satisfies MessageSpec;
}
