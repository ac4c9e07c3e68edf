/**
 * What wayout remembers of the attachments of one node (one network namespace): enough to undo each of them after any
 * crash, and to give back what was there before the first. Everything is written before it is done.
 */
import * as v from "valibot";
import { NAT_BACKENDS } from "../nat/backends/backends.ts";

const network = v.object({
  /** Name of the bridge; also the network's name. */
  bridge: v.string(),
  /** The node's addresses on the bridge, with prefix; the pods' default gateways. */
  gateways: v.array(v.string()),
  /** Those of them that we added. */
  addedGateways: v.array(v.string()),
  /** Prefixes that pods get addresses of: at most one of each family. */
  subnets: v.array(v.string()),
  backend: v.picklist(NAT_BACKENDS),
  /** How a bridge that was there before us was: to be so again. Absent for one that we made. */
  before: v.optional(v.object({ up: v.boolean(), acceptRa: v.optional(v.string()) })),
  /** Per subnet, the last address given, so that a released one rests before it is given again. */
  lastGiven: v.record(v.string(), v.string()),
});

const attachment = v.object({
  /** What the person called the namespace: a name under /run/netns, or a path. */
  label: v.string(),
  path: v.string(),
  /** NetworkNamespace.cookie; absent while we have not made the namespace yet. */
  cookie: v.optional(v.string()),
  /** Whether we made the namespace. */
  created: v.boolean(),
  /** Whether there was no /run/netns when we made it. */
  madeDirectory: v.boolean(),
  /** `attaching` or `detaching` in a record that stays means that a run was killed half-way. */
  phase: v.picklist(["attaching", "attached", "detaching"]),
  bridge: v.string(),
  /** Names of the two ends of the veth pair: in the namespace, on the node. */
  interface: v.string(),
  hostInterface: v.string(),
  /** With prefix. */
  addresses: v.array(v.string()),
  /** Fixed outgoing addresses, at most one of each family. */
  snat: v.array(v.string()),
  /** Whether we set its loopback up. */
  raisedLoopback: v.boolean(),
  /** The resolver file we wrote for it. */
  resolver: v.optional(
    v.object({ path: v.string(), text: v.string(), madeDirectories: v.array(v.string()) }),
  ),
  /** RFC 3339, UTC. */
  since: v.string(),
});

export const nodeRecord = v.object({
  version: v.literal(1),
  networks: v.array(network),
  attachments: v.array(attachment),
  /** Settings that attachments changed, in the order of the changes, with their values before the first. */
  settings: v.array(v.object({ name: v.string(), before: v.string(), after: v.string() })),
});

export type NetworkRecord = v.InferOutput<typeof network>;
export type AttachmentRecord = v.InferOutput<typeof attachment>;
export type NodeRecord = v.InferOutput<typeof nodeRecord>;

export const EMPTY: NodeRecord = { version: 1, networks: [], attachments: [], settings: [] };
