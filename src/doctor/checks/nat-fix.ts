/** The cure that is ours: a policy for the pod's network. */
import { hostCidr } from "../../address/ip.ts";
import { command, namedNamespace } from "../../text/command.ts";
import { present } from "../../present.ts";
import { restored, vouchedNetwork } from "../whose-word.ts";
import type { CheckContext } from "../check.ts";
import type { NatBackendName } from "../../nat/backends/backends.ts";
import type { NatIntent } from "../../nat/intent.ts";
import type { Fix } from "../finding.ts";
import { isIptablesTable } from "../../linux/nftables/text/ruleset.ts";
import { iptablesInterface, nftInterface, nftName } from "../../linux/nftables/spelling.ts";
import type { Decision } from "../predict/decision.ts";
import { isLegacy, legacyProgram } from "../wording.ts";

/** Who wanted the translation writes it once more, and with it whatever of it is missing. */
export function restoringFix(
  context: CheckContext,
  backend: NatBackendName,
  intent: NatIntent,
): Fix | undefined {
  const { name } = context.pod;
  const line = intent.owner.startsWith("attach/")
    ? command`wayout attach ${name}`
    : command`wayout doctor --fix --yes ${name}`;
  return context.fix("node", line, { kind: "restore-nat", backend, intent });
}

/** Where nobody but the pod says that the source is its own, a policy for it is a person's to decide (../whose-word.ts). */
export function natFix(context: CheckContext): (Fix | undefined)[] {
  const source = context.path.sent?.source;
  if (source === undefined) return [];
  const cidr = vouchedNetwork(context, source);
  if (cidr === undefined) {
    const mended = restored(context);
    if (mended.length > 0) return mended;
  }
  const { path } = context.snapshot.node;
  const name = path === undefined ? undefined : (namedNamespace(path) ?? path);
  const wanted = cidr ?? hostCidr(source);
  const policy = JSON.stringify({ sources: [wanted], nonMasqueradeCIDRs: [wanted] });
  const where = name === undefined ? [] : ["--netns", name];
  const line = command`echo ${policy} | wayout nat apply -f - ${where}`;
  if (line === undefined) return [];
  const repair = cidr === undefined ? undefined : ({ kind: "masquerade", cidr } as const);
  return [present({ command: line, place: "node" as const, repair })];
}

/** What the pod sends by a link gets the link's own address, before the rule is asked that gives it another one. */
export function masqueradeFirst(context: CheckContext, by: Decision, out: string): Fix | undefined {
  const { table, base } = by;
  const pod = context.path.sent?.source;
  if (pod === undefined) return undefined;
  if (isIptablesTable(table)) {
    const plain = context.family === 6 ? "ip6tables" : "iptables";
    const program = isLegacy(table) ? legacyProgram(table) : plain;
    return context.fix(
      "node",
      command`${program} -t ${table.name} -I ${base.name} -s ${pod} -o ${iptablesInterface(out)} -j MASQUERADE`,
    );
  }
  const [ip, name] = [context.family === 4 ? "ip" : "ip6", nftInterface(out)];
  const where = [nftName(table.name), nftName(base.name)] as const;
  return context.fix(
    "node",
    command`nft insert rule ${table.family} ${where[0]} ${where[1]} ${ip} saddr ${pod} oifname ${name} masquerade`,
  );
}
