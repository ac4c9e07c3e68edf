/** Rules made ready to run: each expression becomes a step, once for all packets. */
import type { Expression } from "../../linux/nftables/expressions.ts";
import type { Chain, Rule, Table } from "../../linux/nftables/ruleset.ts";
import {
  compileBitwise,
  compileByteorder,
  compileCmp,
  compileLookup,
  compileRange,
  decide,
} from "./comparisons.ts";
import { compileCt, compileFib } from "./conntrack-loads.ts";
import { compileExthdr, compileMeta, compilePayload, compileRt, compileSocket } from "./loads.ts";
import { BREAK, CONTINUE, type Step } from "./machine.ts";
import {
  compileDynset,
  compileImmediate,
  compileMasquerade,
  compileNat,
  compileObject,
  compileQueue,
  compileRedirect,
  compileReject,
  compileStateful,
  compileTproxy,
  proxySyn,
  untrack,
} from "./statements.ts";
import { registerWord } from "../../linux/nftables/registers.ts";
import { compileMatch, compileTarget } from "./xtables/compile.ts";
import type { Unforeseen } from "./oracle.ts";

/** A rule made ready to run, each expression when a packet first gets there: most get no further than a few. */
export class CompiledRule {
  readonly #steps: Step[] = [];

  constructor(
    readonly rule: Rule,
    readonly table: Table,
  ) {}

  /** The step of the expression at `index`; undefined behind the last. */
  step(index: number): Step | undefined {
    const steps = this.#steps;
    while (steps.length <= index) {
      const { rule } = this;
      const at = steps.length;
      const expression = rule.expressionAt === undefined ? rule.expressions[at] : rule.expressionAt(at);
      if (expression === undefined) return undefined;
      steps.push(stepOf(expression, this.table));
    }
    return steps[index];
  }
}

const chains = new WeakMap<Chain, readonly CompiledRule[]>();

/** The rules of a chain, ready to run. */
export function compiledRules(table: Table, chain: Chain): readonly CompiledRule[] {
  let rules = chains.get(chain);
  if (rules === undefined) {
    rules = chain.rules.map((rule) => new CompiledRule(rule, table));
    chains.set(chain, rules);
  }
  return rules;
}

/** By expression: the decoder gives equal expressions of a ruleset as one value. */
const knownSteps = new WeakMap<Expression, Step>();
/** What they do depends on the table that the rule stands in, or they are different in every rule. */
const NOT_SHARED: ReadonlySet<string> = new Set(["lookup", "objref", "cmp", "counter"]);

function stepOf(expression: Expression, table: Table): Step {
  if (NOT_SHARED.has(expression.kind)) return compile(expression, table);
  let step = knownSteps.get(expression);
  if (step === undefined) knownSteps.set(expression, (step = compile(expression, table)));
  return step;
}

/** What cannot be evaluated becomes a question that nobody can answer: both ways are followed. */
function compile(expression: Expression, table: Table): Step {
  switch (expression.kind) {
    case "payload":
      return compilePayload(expression);
    case "meta":
      return compileMeta(expression);
    case "ct":
      return compileCt(expression);
    case "fib":
      return compileFib(expression);
    case "rt":
      return compileRt(expression);
    case "socket":
      return compileSocket(expression);
    case "exthdr":
      return compileExthdr(expression);
    case "cmp":
      return compileCmp(expression);
    case "range":
      return compileRange(expression);
    case "bitwise":
      return compileBitwise(expression);
    case "byteorder":
      return compileByteorder(expression);
    case "lookup":
      return compileLookup(expression, table);
    case "immediate":
      return compileImmediate(expression);
    case "dynset":
      return compileDynset(expression);
    case "counter":
    case "limit":
    case "connlimit":
    case "quota":
    case "last":
      return compileStateful(expression);
    case "objref":
      return compileObject(expression, table);
    case "masq":
      return compileMasquerade(expression);
    case "nat":
      return compileNat(expression);
    case "redir":
      return compileRedirect(expression);
    case "reject":
      return compileReject(expression);
    case "queue":
      return compileQueue(expression);
    case "match":
      return compileMatch(expression);
    case "target":
      return compileTarget(expression);
    default:
      return compileRest(expression);
  }
}

type Rest = Extract<
  Expression,
  {
    readonly kind:
      | "notrack"
      | "log"
      | "dup"
      | "fwd"
      | "flow_offload"
      | "tproxy"
      | "synproxy"
      | "xfrm"
      | "hash"
      | "numgen"
      | "tunnel"
      | "osf"
      | "inner"
      | "other";
  }
>;

function compileRest(expression: Rest): Step {
  switch (expression.kind) {
    case "notrack":
      return (machine) => {
        untrack(machine);
        return CONTINUE;
      };
    case "log":
    case "dup":
      return () => CONTINUE;
    case "flow_offload":
      // Takes over established flows; their first packets, which decide, still pass every rule.
      return () => CONTINUE;
    case "fwd":
      return () => ({ verdict: "stolen", action: "fwd to another interface" });
    case "tproxy":
      return compileTproxy(expression);
    case "synproxy":
      return proxySyn;
    // Packets that came through no IPsec transform have no path to look at.
    case "xfrm":
      return () => BREAK;
    case "hash":
    case "numgen":
      return unknownValue(expression.dreg, {
        why: `${expression.kind} mod ${expression.modulus}`,
        choices: expression.modulus,
      });
    case "tunnel":
    case "osf":
      return unknownValue(expression.dreg, expression.kind);
    case "inner":
      return (machine) => decide(machine, "an expression on an inner header");
    case "other":
      return (machine) =>
        decide(machine, `expression "${expression.name}", which this version does not know`);
  }
}

function unknownValue(register: number, what: string | Unforeseen): Step {
  return (machine) => {
    machine.storeUnknown(registerWord(register), 16, what);
    return CONTINUE;
  };
}
