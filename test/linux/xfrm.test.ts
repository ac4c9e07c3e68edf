/** The structures of IPsec's netlink messages against the kernel's own headers. */
import { expect } from "bun:test";
import { TEMPLATE, xfrmUserPolicyInfo, xfrmUserSaInfo } from "../../src/linux/xfrm.ts";
import { evaluateC, testWithHeaders } from "../support/kernel-headers.ts";

const SIZES = { u8: 1, u16: 2, u32: 4, i8: 1, i32: 4, be16: 2, be32: 4, u64: 8 } as const;

/** Where the fields of a structure stand, by C's alignment. */
function offsets({
  fields,
}: {
  readonly fields: Readonly<Record<string, keyof typeof SIZES>>;
}): Map<string, number> {
  const found = new Map<string, number>();
  let offset = 0;
  for (const [name, kind] of Object.entries(fields)) {
    const width = SIZES[kind];
    offset = Math.ceil(offset / width) * width;
    found.set(name, offset);
    offset += width;
  }
  return found;
}

testWithHeaders("policies, associations and templates stand where the headers have them", () => {
  const policy = offsets(xfrmUserPolicyInfo);
  const association = offsets(xfrmUserSaInfo);
  const at = (structure: string, field: string): string => `offsetof(struct ${structure}, ${field})`;
  const wanted: readonly (readonly [string, number | undefined])[] = [
    ["sizeof(struct xfrm_userpolicy_info)", xfrmUserPolicyInfo.size],
    [at("xfrm_userpolicy_info", "sel.saddr"), policy.get("source0")],
    [at("xfrm_userpolicy_info", "sel.dport"), policy.get("destinationPort")],
    [at("xfrm_userpolicy_info", "sel.sport_mask"), policy.get("sourcePortMask")],
    [at("xfrm_userpolicy_info", "sel.family"), policy.get("family")],
    [at("xfrm_userpolicy_info", "sel.prefixlen_d"), policy.get("destinationLength")],
    [at("xfrm_userpolicy_info", "sel.prefixlen_s"), policy.get("sourceLength")],
    [at("xfrm_userpolicy_info", "sel.proto"), policy.get("protocol")],
    [at("xfrm_userpolicy_info", "sel.ifindex"), policy.get("interface")],
    [at("xfrm_userpolicy_info", "priority"), policy.get("priority")],
    [at("xfrm_userpolicy_info", "index"), policy.get("index")],
    [at("xfrm_userpolicy_info", "dir"), policy.get("direction")],
    [at("xfrm_userpolicy_info", "action"), policy.get("action")],
    ["sizeof(struct xfrm_usersa_info)", xfrmUserSaInfo.size],
    [at("xfrm_usersa_info", "id.daddr"), association.get("to0")],
    [at("xfrm_usersa_info", "id.proto"), association.get("transform")],
    [at("xfrm_usersa_info", "saddr"), association.get("from0")],
    [at("xfrm_usersa_info", "reqid"), association.get("requestId")],
    [at("xfrm_usersa_info", "family"), association.get("saFamily")],
    [at("xfrm_usersa_info", "mode"), association.get("mode")],
    ["sizeof(struct xfrm_user_tmpl)", TEMPLATE.size],
    [at("xfrm_user_tmpl", "id.proto"), TEMPLATE.protocol],
    [at("xfrm_user_tmpl", "family"), TEMPLATE.family],
    [at("xfrm_user_tmpl", "saddr"), TEMPLATE.source],
    [at("xfrm_user_tmpl", "reqid"), TEMPLATE.requestId],
    [at("xfrm_user_tmpl", "mode"), TEMPLATE.mode],
    [at("xfrm_user_tmpl", "optional"), TEMPLATE.optional],
    ["XFRM_MSG_GETPOLICY", 0x15],
    ["XFRM_MSG_NEWPOLICY", 0x13],
    ["XFRM_MSG_GETSA", 0x12],
    ["XFRM_MSG_NEWSA", 0x10],
    ["XFRMA_TMPL", 5],
    ["XFRMA_MARK", 21],
    ["XFRMA_IF_ID", 31],
  ];
  const values = evaluateC(
    ["sys/socket.h", "linux/xfrm.h", "stddef.h"],
    wanted.map(([expression]) => expression),
  );
  expect([...values]).toEqual(wanted as never);
});
