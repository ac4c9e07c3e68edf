/** Why there is no rule: it was there and was flushed, or a program translates elsewhere. */
import { cidrContains, parseCidr } from "../../address/cidr.ts";
import { sourceClaim } from "../../nat/claim.ts";
import { podSources } from "../../nat/intent.ts";
import type { RecordedNat } from "../../snapshot/snapshot.ts";
import { finding, type CheckContext } from "../check.ts";
import type { Evidence, Finding } from "../finding.ts";
import { productOfProgram, programText, translatingPrograms } from "../bpf-programs.ts";
import { natFix, restoringFix } from "./nat-fix.ts";

/** There is a memory of a rule that is gone. */
export function flushedRule(
  context: CheckContext,
  base: readonly Evidence[],
  consequence: string,
): Finding | undefined {
  const { snapshot, pod, path } = context;
  const source = path.sent?.source ?? "";
  const recorded = snapshot.wayoutState?.nat.find(({ intent }) =>
    podSources(intent).some(({ cidr }) => cidrContains(parseCidr(cidr), source)),
  );
  if (recorded !== undefined) return ourFlushedRule(context, recorded, base, consequence);
  const plugin = pod.expected?.masqueradedBy;
  if (plugin === undefined) return undefined;
  const network = pod.expected?.network ?? "";
  return finding("nat-flushed", {
    text: `the CNI plugin “${plugin}” was to masquerade network ${network} when it made ${pod.name}, and there is no such rule any more`,
    owner: `the CNI plugin ${plugin}`,
    evidence: [
      ...base,
      { source: "CNI result cache", value: `network ${network}: ${plugin} with ipMasq` },
      { source: "rules that translate a source", value: "none for it" },
    ],
    consequence,
    fix: natFix(context),
    advice: ["or make the pod anew: its plugin installs its rules with each ADD"],
  });
}

function ourFlushedRule(
  context: CheckContext,
  { record, backend, intent }: RecordedNat,
  base: readonly Evidence[],
  consequence: string,
): Finding {
  const source = podSources(intent).find(({ cidr }) =>
    cidrContains(parseCidr(cidr), context.path.sent?.source ?? ""),
  )!;
  return finding("nat-flushed", {
    text: `wayout had installed the translation of ${source.cidr} (${intent.owner}), and it is gone: another program flushed the rules`,
    owner: `wayout (${intent.owner})`,
    evidence: [
      ...base,
      { source: record, value: sourceClaim(intent.owner, source) },
      { source: "rules that translate a source", value: "none for it" },
    ],
    consequence,
    fix: [restoringFix(context, backend, intent)],
  });
}

/** A program would translate, on another link than the one the packet leaves by. */
export function programElsewhere(
  context: CheckContext,
  base: readonly Evidence[],
  consequence: string,
): Finding | undefined {
  const programs = translatingPrograms(context.snapshot.node.programs);
  const out = context.path.outLink?.name;
  const [first] = programs;
  if (first === undefined || out === undefined) return undefined;
  const product = productOfProgram(first.name ?? "") ?? "its program";
  const links = [...new Set(programs.map((one) => one.link))].join(", ");
  return finding("nat-program-elsewhere", {
    text: `${product} translates what leaves by ${links}, and the packet leaves by ${out}`,
    owner: product,
    evidence: [
      ...base,
      ...programs.slice(0, 5).map((one) => ({ source: `programs of ${one.link}`, value: programText(one) })),
      { source: `programs of ${out}`, value: "none that translates" },
    ],
    consequence,
    fix: natFix(context),
    advice: [`name ${out} among ${product}'s devices, too (Cilium: devices=)`],
    confidence: "likely",
  });
}
