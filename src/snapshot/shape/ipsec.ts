/** The shape of what IPsec says of a namespace. */
import type { IpsecAssociation, IpsecPolicy, IpsecState, IpsecTemplate } from "../../linux/xfrm.ts";
import {
  family,
  integer,
  ip,
  list,
  name,
  object,
  oneOf,
  optional,
  port,
  prefix,
  u32,
  yes,
} from "./pieces.ts";

const protocol = integer(0, 0xff);

const template = object<IpsecTemplate>({
  source: ip,
  destination: ip,
  protocol,
  requestId: u32,
  mode: name,
  optional: optional(yes),
});

const policy = object<IpsecPolicy>({
  family,
  source: prefix,
  destination: prefix,
  protocol,
  sourcePort: port,
  sourcePortMask: port,
  destinationPort: port,
  destinationPortMask: port,
  interface: integer(-0x8000_0000, 0x7fff_ffff),
  direction: oneOf(["in", "out", "fwd"]),
  action: oneOf(["allow", "block"]),
  priority: u32,
  index: u32,
  mark: optional(u32),
  mask: optional(u32),
  templates: list(template, 6),
});

const association = object<IpsecAssociation>({
  source: ip,
  destination: ip,
  protocol,
  requestId: u32,
  mode: name,
});

export const ipsec = object<IpsecState>({ policies: list(policy), associations: list(association) });
