/** One change to a ruleset: a message of a transaction. What the builders of changes share. */
import { request, type AnyRequest } from "../netlink/message.ts";
import type { NFT_MSG } from "./messages.ts";
import { FAMILIES, type Family, type TableRef } from "./ruleset.ts";

/** One step of a transaction. */
export type RulesetChange = AnyRequest;
/** Steps, possibly in groups: builders that need several messages return several. */
export type Transaction = readonly (RulesetChange | readonly RulesetChange[])[];

type Spec = (typeof NFT_MSG)[keyof typeof NFT_MSG];

/** A request, with `doing` for its errors. */
export function changeRequest<S extends Spec>(
  message: S,
  family: Family,
  doing: string,
  attributes: Parameters<S["attributes"]["write"]>[1],
  flags = 0,
): RulesetChange {
  return request(message as never, doing, { family: FAMILIES[family] }, attributes as never, flags);
}

/** `table inet wayout` */
export function tableName(table: TableRef): string {
  return `table ${table.family} ${table.table}`;
}
