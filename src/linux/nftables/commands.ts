/**
 * Changes to a ruleset, to be carried out together in one transaction (Nftables.transaction). Each function is one
 * `nft` command: `add` accepts what exists already, `create` refuses it.
 */
import { NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE } from "../netlink/message.ts";
import { EncodeError } from "../netlink/wire.ts";
import { changeRequest, tableName, type RulesetChange } from "./transaction.ts";
import { OBJECT_TYPES } from "./enumerations.ts";
import type { Expression } from "./expressions.ts";
import { NFT_MSG } from "./messages.ts";
import { objectTypeNumber, writeObject } from "./objects.ts";
import {
  hookNumber,
  type BaseChain,
  type ChainRef,
  type Flowtable,
  type ObjectValue,
  type RuleRef,
  type TableFlag,
  type TableRef,
} from "./ruleset.ts";
import type { Named } from "./values.ts";

export type { RulesetChange, Transaction } from "./transaction.ts";
export * from "./set-commands.ts";

function chainText(chain: ChainRef): string {
  return `chain ${chain.family} ${chain.table} ${chain.chain}`;
}

// ── Tables ───────────────────────────────────────────────────────────────────────────────────────────────────────

export interface TableOptions {
  readonly flags?: readonly TableFlag[];
  readonly comment?: string;
}

/** `add table inet wayout` */
export function addTable(table: TableRef, options: TableOptions = {}): RulesetChange {
  return changeRequest(
    NFT_MSG.newTable,
    table.family,
    `adding ${tableName(table)}`,
    tableValue(table, options),
    NLM_F_CREATE,
  );
}

/** `create table …`: EEXIST when it is there. */
export function createTable(table: TableRef, options: TableOptions = {}): RulesetChange {
  const flags = NLM_F_CREATE | NLM_F_EXCL;
  return changeRequest(
    NFT_MSG.newTable,
    table.family,
    `creating ${tableName(table)}`,
    tableValue(table, options),
    flags,
  );
}

function tableValue(table: TableRef, options: TableOptions) {
  return {
    name: table.table,
    flags: options.flags ?? [],
    ...(options.comment === undefined ? {} : { notes: { comment: options.comment } }),
  };
}

/** `delete table …` with everything in it: ENOENT when it is not there. */
export function deleteTable(table: TableRef): RulesetChange {
  return changeRequest(NFT_MSG.delTable, table.family, `deleting ${tableName(table)}`, { name: table.table });
}

/** `add table` then `delete table`: gone afterwards, whether it was there or not. */
export function destroyTable(table: TableRef): RulesetChange[] {
  return [addTable(table), deleteTable(table)];
}

/** `flush table …`: deletes its rules; chains, sets and objects stay. */
export function flushTable(table: TableRef): RulesetChange {
  return changeRequest(NFT_MSG.delRule, table.family, `flushing ${tableName(table)}`, { table: table.table });
}

// ── Chains ───────────────────────────────────────────────────────────────────────────────────────────────────────

export interface ChainOptions {
  /** Absent for a chain that is only jumped to. The policy is `accept` unless given. */
  readonly base?: Omit<BaseChain, "policy"> & { readonly policy?: BaseChain["policy"] };
  readonly comment?: string;
}

/** `add chain inet wayout postrouting { type nat hook postrouting priority 100; }` */
export function addChain(chain: ChainRef, options: ChainOptions = {}): RulesetChange {
  return changeRequest(
    NFT_MSG.newChain,
    chain.family,
    `adding ${chainText(chain)}`,
    chainValue(chain, options),
    NLM_F_CREATE,
  );
}

/** `create chain …`: EEXIST when it is there. */
export function createChain(chain: ChainRef, options: ChainOptions = {}): RulesetChange {
  const flags = NLM_F_CREATE | NLM_F_EXCL;
  return changeRequest(
    NFT_MSG.newChain,
    chain.family,
    `creating ${chainText(chain)}`,
    chainValue(chain, options),
    flags,
  );
}

function chainValue(chain: ChainRef, { base, comment }: ChainOptions) {
  return {
    table: chain.table,
    name: chain.chain,
    ...(base === undefined ? {} : baseValue(chain, base)),
    ...(comment === undefined ? {} : { notes: { comment } }),
  };
}

function baseValue(chain: ChainRef, base: NonNullable<ChainOptions["base"]>) {
  const number = hookNumber(chain.family, base.hook);
  if (number === undefined) {
    throw new EncodeError("NFTA_HOOK_HOOKNUM", `family ${chain.family} has no hook "${base.hook}"`);
  }
  return {
    type: base.type,
    hook: {
      number,
      priority: base.priority,
      ...(base.devices?.length === 1 ? { device: base.devices[0]! } : {}),
      ...(base.devices !== undefined && base.devices.length > 1 ? { devices: { names: base.devices } } : {}),
    },
    ...(base.policy === undefined ? {} : { policy: base.policy === "drop" ? 0 : 1 }),
  };
}

/** `delete chain …`: EBUSY while it has rules or is jumped to. */
export function deleteChain(chain: ChainRef): RulesetChange {
  const value = { table: chain.table, name: chain.chain };
  return changeRequest(NFT_MSG.delChain, chain.family, `deleting ${chainText(chain)}`, value);
}

/** `flush chain …`: deletes its rules. */
export function flushChain(chain: ChainRef): RulesetChange {
  const value = { table: chain.table, chain: chain.chain };
  return changeRequest(NFT_MSG.delRule, chain.family, `flushing ${chainText(chain)}`, value);
}

// ── Rules ────────────────────────────────────────────────────────────────────────────────────────────────────────

/** Expressions, possibly in groups, as the builders of rule-builder.ts return them. */
export type Expressions = readonly (Expression | readonly Expression[])[];

export interface RuleOptions {
  readonly expressions: Expressions;
  readonly comment?: string;
  /** Handle of the rule it shall stand behind (addRule) or before (insertRule). */
  readonly position?: number;
}

function ruleValue(chain: ChainRef, rule: RuleOptions) {
  return {
    table: chain.table,
    chain: chain.chain,
    expressions: rule.expressions.flat(),
    ...(rule.position === undefined ? {} : { position: rule.position }),
    ...(rule.comment === undefined ? {} : { notes: { comment: rule.comment } }),
  };
}

/** `add rule …`: at the end of the chain, or behind the rule at `position`. */
export function addRule(chain: ChainRef, rule: RuleOptions): RulesetChange {
  const doing = `adding a rule to ${chainText(chain)}`;
  return changeRequest(
    NFT_MSG.newRule,
    chain.family,
    doing,
    ruleValue(chain, rule),
    NLM_F_CREATE | NLM_F_APPEND,
  );
}

/** `insert rule …`: at the beginning of the chain, or before the rule at `position`. */
export function insertRule(chain: ChainRef, rule: RuleOptions): RulesetChange {
  const doing = `inserting a rule into ${chainText(chain)}`;
  return changeRequest(NFT_MSG.newRule, chain.family, doing, ruleValue(chain, rule), NLM_F_CREATE);
}

/** `replace rule … handle N …` */
export function replaceRule(rule: RuleRef, by: Omit<RuleOptions, "position">): RulesetChange {
  const doing = `replacing rule ${rule.handle} of ${chainText(rule)}`;
  const value = { ...ruleValue(rule, by), handle: rule.handle };
  return changeRequest(NFT_MSG.newRule, rule.family, doing, value, NLM_F_REPLACE);
}

/** `delete rule … handle N`: ENOENT when it is not there. */
export function deleteRule(rule: RuleRef): RulesetChange {
  const value = { table: rule.table, chain: rule.chain, handle: rule.handle };
  return changeRequest(
    NFT_MSG.delRule,
    rule.family,
    `deleting rule ${rule.handle} of ${chainText(rule)}`,
    value,
  );
}

// ── Objects and flowtables ───────────────────────────────────────────────────────────────────────────────────────

export interface ObjectRef extends TableRef {
  readonly object: string;
}

/** `add counter inet wayout NAME` and its like. */
export function addObject(object: ObjectRef, value: ObjectValue, comment?: string): RulesetChange {
  const attributes = {
    table: object.table,
    name: object.object,
    type: objectTypeNumber(value),
    data: writeObject(value),
    ...(comment === undefined ? {} : { notes: { comment } }),
  };
  const doing = `adding ${value.type} ${object.object} to ${tableName(object)}`;
  return changeRequest(NFT_MSG.newObject, object.family, doing, attributes, NLM_F_CREATE);
}

/** `delete counter …` and its like: EBUSY while a rule uses it. */
export function deleteObject(object: ObjectRef, type: Named<typeof OBJECT_TYPES>): RulesetChange {
  const number = Object.hasOwn(OBJECT_TYPES, type)
    ? OBJECT_TYPES[type as keyof typeof OBJECT_TYPES]
    : Number(type.slice(1));
  const doing = `deleting ${type} ${object.object} from ${tableName(object)}`;
  return changeRequest(NFT_MSG.delObject, object.family, doing, {
    table: object.table,
    name: object.object,
    type: number,
  });
}

export interface FlowtableRef extends TableRef {
  readonly flowtable: string;
}

/** `add flowtable …` */
export function addFlowtable(
  ref: FlowtableRef,
  options: Pick<Flowtable, "priority" | "devices">,
): RulesetChange {
  const value = {
    table: ref.table,
    name: ref.flowtable,
    hook: { number: 0, priority: options.priority, devices: { names: options.devices } },
  };
  const doing = `adding flowtable ${ref.flowtable} to ${tableName(ref)}`;
  return changeRequest(NFT_MSG.newFlowtable, ref.family, doing, value, NLM_F_CREATE);
}

/** `delete flowtable …` */
export function deleteFlowtable(ref: FlowtableRef): RulesetChange {
  const doing = `deleting flowtable ${ref.flowtable} from ${tableName(ref)}`;
  return changeRequest(NFT_MSG.delFlowtable, ref.family, doing, { table: ref.table, name: ref.flowtable });
}
