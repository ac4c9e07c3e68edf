/** Is there room to remember one more connection? */
import { command } from "../../text/command.ts";
import { anywhere, finding, sysctlEvidence, type Check, type CheckContext } from "../check.ts";
import type { Finding } from "../finding.ts";
import { answerUnrecognized, flowUntracked } from "./unanswered.ts";

const OWNER = "the node's settings";
/** Above this share of the table new connections begin to suffer early drops. */
const FULL = 0.95;
const NEARLY = 0.8;

export const conntrack: Check = {
  step: "conntrack",
  codes: [
    "conntrack-full",
    "conntrack-nearly-full",
    "conntrack-missing",
    "conntrack-insert-failed",
    "conntrack-dropping",
    "flow-untracked",
    "answer-unrecognized",
  ],
  run: (context) => [
    ...flowUntracked(context),
    ...answerUnrecognized(context),
    ...capacity(context),
    ...missing(context),
    ...growth(context),
  ],
};

function capacity(context: CheckContext): Finding[] {
  const { conntrack: table } = context.snapshot.node;
  // 0 means no limit of this namespace's own.
  if (table === undefined || table.max === 0) return [];
  const share = table.count / table.max;
  if (share < NEARLY) return [];
  const full = share >= FULL;
  return [
    finding(full ? "conntrack-full" : "conntrack-nearly-full", {
      text: `the connection table holds ${table.count} of ${table.max} entries`,
      owner: OWNER,
      evidence: [
        sysctlEvidence("net.netfilter.nf_conntrack_count", table.count),
        sysctlEvidence("net.netfilter.nf_conntrack_max", table.max),
        { source: "conntrack drop", value: String(table.readings.at(-1)?.drop ?? 0) },
      ],
      consequence: full ? "new connections are dropped" : "a burst of connections fills it",
      fix: [
        context.fix(
          "node",
          command`sysctl -w net.netfilter.nf_conntrack_max=${Math.max(table.max * 2, 262_144)}`,
        ),
      ],
      advice: ["see who fills it: wayout conntrack stats"],
    }),
  ];
}

function missing(context: CheckContext): Finding[] {
  const { node } = context.snapshot;
  const why = context.snapshot.missing.find((one) => one.where === "node" && one.what === "ruleset")?.why;
  if (node.conntrack !== undefined || node.ruleset !== undefined) return [];
  return [
    finding("conntrack-missing", {
      text: `this kernel can neither track connections nor filter: ${why ?? "nf_conntrack is not there"}`,
      owner: "the kernel",
      evidence: [
        sysctlEvidence("net.netfilter.nf_conntrack_count", undefined),
        { source: "nf_tables", value: why ?? "not there" },
      ],
      consequence: "nothing can be translated here",
      fix: [anywhere(command`modprobe nf_conntrack nf_tables nft_chain_nat`)],
    }),
  ];
}

/** What grew between the two readings. Nothing is said of what grew before. */
function growth(context: CheckContext): Finding[] {
  const readings = context.snapshot.node.conntrack?.readings ?? [];
  const [first] = readings;
  const last = readings.at(-1);
  if (first === undefined || last === undefined) return [];
  const found: Finding[] = [];
  const failed = last.insertFailed - first.insertFailed;
  if (failed > 0) {
    found.push(
      finding("conntrack-insert-failed", {
        text: `${failed} connections could not be recorded while the doctor looked`,
        owner: "the kernel",
        evidence: [
          { source: "conntrack insert_failed", value: `${first.insertFailed} → ${last.insertFailed}` },
          { source: "conntrack clash resolved", value: `${first.clash} → ${last.clash}` },
        ],
        consequence: "their packets are lost; DNS queries come again after five seconds",
        advice: [
          "translate with fully-random ports (wayout does by default)",
          "in the pod's resolv.conf: options single-request-reopen",
        ],
        confidence: "likely",
      }),
    );
  }
  const dropped = last.drop - first.drop + (last.earlyDrop - first.earlyDrop);
  if (dropped > 0) {
    found.push(
      finding("conntrack-dropping", {
        text: `conntrack dropped ${dropped} packets or connections while the doctor looked`,
        owner: OWNER,
        evidence: [
          { source: "conntrack drop", value: `${first.drop} → ${last.drop}` },
          { source: "conntrack early_drop", value: `${first.earlyDrop} → ${last.earlyDrop}` },
        ],
        consequence: "connections fail now and then",
        fix: [anywhere(command`wayout conntrack stats`)],
        confidence: "likely",
      }),
    );
  }
  return found;
}
