/**
 * A rule as nft text. Its expressions are followed in order: what loads a register is remembered as text, what
 * compares or acts becomes a part of the rule.
 */
import { swapHex } from "../datatypes.ts";
import type { Expression, ExpressionKinded } from "../expressions.ts";
import { NFT_REG_VERDICT } from "../registers.ts";
import type { NftSet, Rule } from "../ruleset.ts";
import type { Verdict } from "../values.ts";
import { fieldAssignment, fieldOf, impliedBy, mapValue, shifted } from "./derived-values.ts";
import { formatDuration, formatValue, quoted } from "./format.ts";
import { exthdrText, tcpOptionText } from "./extensions.ts";
import { ctText, ctType, hashText, loadedValue, metaText, metaType, payloadValue } from "./loads.ts";
import { comparison, maskedField, maskedText, rangeComparison } from "./matches.ts";
import { Protocols } from "./protocols.ts";
import { concatText, Registers, type Value } from "./registers.ts";
import type { Scope } from "./scope.ts";
import { inlineSetText, mapDataTypes, verdictText } from "./sets.ts";
import { statefulText } from "./stateful.ts";
import {
  compatText,
  duplicateText,
  forwardText,
  logText,
  masqueradeText,
  natText,
  objectRefText,
  queueText,
  redirectText,
  rejectText,
  synproxyText,
  tproxyText,
  unknownText,
  type StatementContext,
} from "./statements.ts";

interface Part {
  readonly text: string;
  /** What a condition on a protocol asks, `meta l4proto`: it may go without saying. */
  readonly asks?: string;
}

/** Follows one rule. */
class RuleWriter {
  readonly #parts: Part[] = [];
  readonly #registers = new Registers();
  readonly #protocols: Protocols;
  readonly #context: StatementContext;
  #isIpv6 = false;
  #expressions: readonly Expression[] = [];
  #index = 0;

  constructor(readonly scope: Scope) {
    this.#protocols = new Protocols(scope.family);
    this.#context = { family: scope.family, registers: this.#registers, names: scope.options };
  }

  write(rule: Rule): string {
    this.#expressions = rule.expressions;
    for (this.#index = 0; this.#index < rule.expressions.length; this.#index++) {
      this.#expression(rule.expressions[this.#index]!);
    }
    let text = "";
    for (const part of this.#parts) text += text === "" ? part.text : ` ${part.text}`;
    if (rule.comment !== undefined) text += `${text === "" ? "" : " "}comment ${quoted(rule.comment)}`;
    if (this.scope.options.handles === true) text += ` # handle ${rule.handle}`;
    return text;
  }

  /** Adds a part. A condition right before it that its fields imply is taken back: nft adds it by itself. */
  #add(text: string, values: readonly (Pick<Value, "implies"> | undefined)[] = [], asks?: string): void {
    for (let last = this.#parts.at(-1); last?.asks !== undefined; last = this.#parts.at(-1)) {
      const asked = last.asks;
      if (!values.some((value) => value?.implies?.includes(asked) === true)) break;
      this.#parts.pop();
    }
    this.#parts.push(asks === undefined ? { text } : { text, asks });
  }

  #expression(expression: Expression): void {
    const loaded = loadedValue(expression, this.#protocols);
    if (loaded !== undefined) {
      this.#registers.store(loaded.register, loaded.value);
      return;
    }
    switch (expression.kind) {
      case "cmp":
        return this.#compare(expression);
      case "range":
        return this.#range(expression);
      case "bitwise":
        return this.#bitwise(expression);
      case "byteorder":
        return this.#byteorder(expression);
      case "lookup":
        return this.#lookup(expression);
      case "immediate":
        return this.#immediate(expression);
      case "dynset":
        return this.#dynset(expression);
      case "hash":
        return this.#hash(expression);
      case "meta":
      case "ct":
      case "payload":
      case "exthdr":
        return this.#assignment(expression);
      case "objref":
        return this.#objectRef(expression);
      default:
        this.#add(this.#statement(expression), this.#used(expression));
    }
  }

  #statement(expression: Expression): string {
    switch (expression.kind) {
      case "counter":
      case "limit":
      case "quota":
      case "connlimit":
      case "last":
        return statefulText(expression, this.scope.options);
      case "log":
        return logText(expression);
      case "reject":
        return rejectText(expression, this.scope.family, this.#isIpv6);
      case "masq":
        return masqueradeText(this.#context, expression);
      case "redir":
        return redirectText(this.#context, expression);
      case "nat":
        return natText(this.#context, expression);
      case "tproxy":
        return tproxyText(this.#context, expression);
      case "dup":
        return duplicateText(this.#context, expression);
      case "fwd":
        return forwardText(this.#context, expression);
      case "queue":
        return queueText(this.#context, expression);
      case "synproxy":
        return synproxyText(expression);
      case "notrack":
        return "notrack";
      case "flow_offload":
        return `flow add @${expression.flowtable}`;
      case "match":
      case "target":
        return compatText(expression, this.scope.family, this.scope.options);
      case "other":
        return unknownText(expression);
      default:
        return `/* ${expression.kind} */`;
    }
  }

  // ── Conditions ─────────────────────────────────────────────────────────────────────────────────────────────────

  /** What is known of a register's value; a constant is of no type, and cannot be written as one. */
  #typed(register: number): Value | undefined {
    const value = this.#registers.at(register);
    return value === undefined || value.types.length === 0 ? undefined : value;
  }

  #compare(expression: ExpressionKinded<"cmp">): void {
    const value = this.#typed(expression.sreg);
    if (value === undefined)
      return this.#add(`/* register ${expression.sreg} ${expression.op} 0x${expression.data} */`);
    const next = this.#expressions[this.#index + 1];
    if (isRangeEnd(expression, next)) {
      this.#index++;
      return this.#add(rangeComparison(value, "==", expression.data, next.data, this.scope.options), [value]);
    }
    if (expression.data.length / 2 > value.size && value.size > 0) return this.#compareConcat(expression);
    const isCondition =
      expression.op === "==" &&
      value.mask === undefined &&
      this.#protocols.learn(value.text, expression.data);
    if (value.text === "meta nfproto" && expression.op === "==") this.#isIpv6 = expression.data === "0a";
    const texts = comparison(value, expression.op, expression.data, this.scope.options);
    const asks = isCondition ? value.text : undefined;
    for (const text of texts) this.#add(text, [impliedBy(value)], asks);
  }

  /** Several registers compared at once: a concatenation. */
  #compareConcat(expression: ExpressionKinded<"cmp">): void {
    const values = this.#registers.from(expression.sreg, expression.data.length / 2) ?? [];
    let at = 0;
    const parts = values.map((value) => {
      const part = expression.data.slice(at, at + value.size * 2);
      at += Math.ceil(value.size / 4) * 8;
      return formatValue(value.types[0]!, part, this.scope.options, value.bigEndian);
    });
    const op = expression.op === "==" ? "" : `${expression.op} `;
    this.#add(`${concatText(values)} ${op}${parts.join(" . ")}`, values);
  }

  #range(expression: ExpressionKinded<"range">): void {
    const value = this.#typed(expression.sreg);
    if (value === undefined) {
      return this.#add(
        `/* register ${expression.sreg} ${expression.op} 0x${expression.from}-0x${expression.to} */`,
      );
    }
    this.#add(rangeComparison(value, expression.op, expression.from, expression.to, this.scope.options), [
      value,
    ]);
  }

  #lookup(expression: ExpressionKinded<"lookup">): void {
    const set = this.scope.set(expression.set);
    const left = this.#registers.from(expression.sreg, set?.keyLength ?? 4) ?? [];
    return this.#lookUp(
      expression,
      set,
      left.map((value) => fieldOf(value)),
    );
  }

  #lookUp(expression: ExpressionKinded<"lookup">, set: NftSet | undefined, left: readonly Value[]): void {
    const text = left.map((value) => maskedText(value, this.scope.options)).join(" . ");
    const operand = this.#setText(expression.set, left);
    if (expression.dreg === NFT_REG_VERDICT) return this.#add(`${text} vmap ${operand}`, left);
    if (expression.dreg === undefined) {
      const not = expression.flags?.includes("inv") === true ? "!= " : "";
      return this.#add(`${text} ${not}${operand}`, left);
    }
    this.#registers.store(expression.dreg, mapValue(`${text} map ${operand}`, set, left));
  }

  /** `@name`, or the elements of an anonymous set. */
  #setText(name: string, left: readonly Value[]): string {
    const set = this.scope.set(name);
    return set?.flags.includes("anonymous") === true ? inlineSetText(set, this.scope, left) : `@${name}`;
  }

  // ── Changes to registers ───────────────────────────────────────────────────────────────────────────────────────

  #bitwise(expression: ExpressionKinded<"bitwise">): void {
    const value = this.#registers.at(expression.sreg);
    if (value === undefined) return;
    const op = expression.op ?? "mask-xor";
    if (op === "lshift" || op === "rshift") {
      const field = value.mask === undefined ? undefined : maskedField(value, value.mask);
      const bits = Number.parseInt(swapHex(expression.data ?? ""), 16) || 0;
      if (field !== undefined && op === "rshift" && field.shift === bits) {
        const { mask: _mask, xor: _xor, place: _place, ...rest } = value;
        const implies = field.implies === undefined ? {} : { implies: field.implies };
        return this.#registers.store(expression.dreg, {
          ...rest,
          ...implies,
          text: field.text,
          types: [field.type],
        });
      }
      const masked = maskedText(value, this.scope.options);
      const inner = masked === value.text ? masked : `(${masked})`;
      return this.#registers.store(
        expression.dreg,
        shifted(value, `${inner} ${op === "lshift" ? "<<" : ">>"} ${bits}`),
      );
    }
    if (op !== "mask-xor") {
      const other =
        expression.sreg2 === undefined ? `0x${expression.data ?? ""}` : this.#textAt(expression.sreg2);
      const sign = { and: "&", or: "|", xor: "^" }[op as "and" | "or" | "xor"] ?? op;
      return this.#registers.store(
        expression.dreg,
        shifted(value, `${maskedText(value, this.scope.options)} ${sign} ${other}`),
      );
    }
    const mask = expression.mask ?? "ff".repeat(expression.length);
    const xor = expression.xor ?? "00".repeat(expression.length);
    if (value.mask === undefined) {
      return this.#registers.store(expression.dreg, { ...value, mask, xor });
    }
    const inner = shifted(value, `(${maskedText(value, this.scope.options)})`);
    this.#registers.store(expression.dreg, { ...inner, mask, xor });
  }

  #textAt(register: number): string {
    const value = this.#registers.at(register);
    return value === undefined ? `/* register ${register} */` : maskedText(value, this.scope.options);
  }

  #byteorder(expression: ExpressionKinded<"byteorder">): void {
    const value = this.#registers.at(expression.sreg);
    if (value === undefined) return;
    const isHost = value.types[0]?.order === "host";
    this.#registers.store(expression.dreg, {
      ...value,
      bigEndian: isHost ? value.bigEndian !== true : false,
    });
  }

  #hash(expression: ExpressionKinded<"hash">): void {
    const over =
      expression.sreg === undefined
        ? []
        : (this.#registers.from(expression.sreg, expression.length ?? 4) ?? []);
    const text = hashText(expression, over.map((value) => maskedText(value, this.scope.options)).join(" . "));
    const implies = over.flatMap((value) => value.implies ?? []);
    this.#registers.store(expression.dreg, { text, types: [metaType("cpu")], size: 4, implies });
  }

  #immediate(expression: ExpressionKinded<"immediate">): void {
    if ("verdict" in expression.data) return this.#add(this.#verdict(expression.data));
    const data = expression.data.value;
    const size = data.length / 2;
    this.#registers.store(expression.dreg, { text: `0x${data}`, types: [], size, data });
  }

  #verdict(verdict: Verdict): string {
    const inline = verdict.chain === undefined ? undefined : this.scope.inlineChain(verdict.chain);
    if (inline === undefined) return verdictText(verdict);
    const rules = inline.rules.map((rule) => ruleTextIn(rule, this.scope));
    return `${verdict.verdict} {\n${rules.map((rule) => `\t\t\t${rule}\n`).join("")}\t\t}`;
  }

  /** What a statement takes from registers. */
  #used(expression: Expression): readonly (Pick<Value, "implies"> | undefined)[] {
    if (this.#parts.at(-1)?.asks === undefined) return [];
    if (expression.kind === "reject" && expression.type === "icmp" && this.scope.family === "inet") {
      return [{ implies: ["meta nfproto"] }];
    }
    const registers = Object.entries(expression).filter(([name]) => name.startsWith("sreg"));
    return registers.map(([, register]) => this.#registers.within(register as number)?.value);
  }

  #objectRef(expression: ExpressionKinded<"objref">): void {
    if (expression.set === undefined) return this.#add(objectRefText(expression, undefined));
    const set = this.scope.set(expression.set);
    const left =
      expression.sreg === undefined ? [] : (this.#registers.from(expression.sreg, set?.keyLength ?? 4) ?? []);
    const map = this.#setText(expression.set, left);
    this.#add(objectRefText(expression, { type: set?.objectType, left, map }), left);
  }

  // ── Statements that set something ──────────────────────────────────────────────────────────────────────────────

  #assignment(expression: ExpressionKinded<"meta" | "ct" | "payload" | "exthdr">): void {
    if (expression.kind === "exthdr" && expression.sreg === undefined) {
      return this.#add(`reset ${tcpOptionText(expression.type)}`);
    }
    const value = expression.sreg === undefined ? undefined : this.#registers.at(expression.sreg);
    const values = value === undefined ? [] : [value];
    const { text, target } = this.#target(expression);
    const part =
      expression.kind === "payload" ? fieldAssignment(target, value, this.scope.options) : undefined;
    if (part !== undefined) return this.#add(part.text, [part]);
    this.#add(`${text} set ${this.#assigned(expression, value, target)}`, [...values, target]);
  }

  #target(expression: ExpressionKinded<"meta" | "ct" | "payload" | "exthdr">): {
    readonly text: string;
    readonly target: Value;
  } {
    switch (expression.kind) {
      case "meta": {
        const type = metaType(expression.key);
        const text = metaText(expression.key);
        return { text, target: { text, types: [type], size: type.size } };
      }
      case "ct": {
        const type = ctType(expression.key);
        const text = ctText(expression);
        return { text, target: { text, types: [type], size: type.size } };
      }
      case "payload": {
        const target = payloadValue(expression, this.#protocols);
        return { text: target.text, target };
      }
      case "exthdr": {
        const { text, type } = exthdrText(expression);
        return { text, target: { text, types: [type], size: type.size } };
      }
    }
  }

  #assigned(
    expression: ExpressionKinded<"meta" | "ct" | "payload" | "exthdr">,
    value: Value | undefined,
    target: Value,
  ): string {
    if (value === undefined) return `/* register ${expression.sreg ?? "?"} */`;
    if (value.data === undefined) return maskedText(value, this.scope.options);
    if (target.text.startsWith("@")) return `0x${value.data.replace(/^0+(?=.)/, "")}`;
    return formatValue(target.types[0]!, value.data, this.scope.options, value.bigEndian);
  }

  #dynset(expression: ExpressionKinded<"dynset">): void {
    const set = this.scope.set(expression.set);
    const left = this.#registers.from(expression.sregKey, set?.keyLength ?? 4) ?? [];
    let element = left.map((value) => maskedText(value, this.scope.options)).join(" . ");
    if (expression.timeoutMs !== undefined && expression.timeoutMs > 0) {
      element += ` timeout ${formatDuration(expression.timeoutMs)}`;
    }
    const stateful =
      expression.expressions ?? (expression.expression === undefined ? [] : [expression.expression]);
    for (const one of stateful) element += ` ${statefulText(one, this.scope.options)}`;
    if (expression.sregData !== undefined) element += ` : ${this.#dynsetData(expression.sregData, set)}`;
    this.#add(`${expression.op} @${expression.set} { ${element} }`, left);
  }

  #dynsetData(register: number, set: NftSet | undefined): string {
    const types = set === undefined ? [] : mapDataTypes(set);
    const values = this.#registers.from(register, set?.dataLength ?? 4) ?? [];
    const parts = values.map((value, index) => {
      const type = types[index];
      if (value.data === undefined || type === undefined) return maskedText(value, this.scope.options);
      return formatValue(type, value.data, this.scope.options);
    });
    return parts.join(" . ");
  }
}

/** Two comparisons that nft wrote for one range. */
function isRangeEnd(
  first: ExpressionKinded<"cmp">,
  next: Expression | undefined,
): next is ExpressionKinded<"cmp"> {
  return first.op === ">=" && next?.kind === "cmp" && next.op === "<=" && next.sreg === first.sreg;
}

/** One rule in the scope of its table. */
export function ruleTextIn(rule: Rule, scope: Scope): string {
  return new RuleWriter(scope).write(rule);
}
