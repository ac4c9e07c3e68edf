/** Is there room to remember one more connection? */
import { TCP_TIMEOUTS_S, UDP_TIMEOUTS_S } from "../../linux/conntrack/timeouts.ts";
import { TCP_LOOSE } from "../predict/statements.ts";
import { command } from "../../text/command.ts";
import { anywhere, finding, sysctlEvidence, type Check, type CheckContext, ruleEvidence } from "../check.ts";
import type { Finding } from "../finding.ts";
import { RESTING_STATE } from "../../linux/conntrack/timeout-policy.ts";
import { ownerOfDecision } from "../whose.ts";
import { decisionText } from "../wording.ts";
import { dropsInvalid } from "./invalid.ts";
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
    "conntrack-timeout-short",
    "conntrack-not-loose",
  ],
  run: (context) => [
    ...flowUntracked(context),
    ...answerUnrecognized(context),
    ...capacity(context),
    ...missing(context),
    ...growth(context),
    ...forgetful(context),
    ...strict(context),
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
      advice: ["see which pods fill it: wayout conntrack stats"],
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

/** What applications rest without a word: TCP's keepalive by default, and the shortest of UDP's usual keepalives. */
const RESTS = {
  tcp: {
    sysctl: "net.netfilter.nf_conntrack_tcp_timeout_established",
    seconds: 7200,
    usual: TCP_TIMEOUTS_S.established,
  },
  udp: {
    sysctl: "net.netfilter.nf_conntrack_udp_timeout_stream",
    seconds: 30,
    usual: UDP_TIMEOUTS_S.replied,
  },
} as const;

/** A translated flow that is forgotten while both ends still have it is lost: the answer finds nobody. */
function forgetful(context: CheckContext): Finding[] {
  const { path, node, target } = context;
  if (path.translatedBy === undefined || (target.protocol !== "tcp" && target.protocol !== "udp")) return [];
  const { sysctl, seconds, usual } = RESTS[target.protocol];
  // A rule that says nothing of this state leaves it as the namespace has it.
  const byRule = path.timeouts?.seconds[RESTING_STATE[target.protocol]];
  const value = byRule ?? node.view.sysctl(sysctl);
  if (value === undefined || value >= seconds) return [];
  const rule = byRule === undefined ? undefined : path.timeouts;
  return [
    finding("conntrack-timeout-short", {
      text: `the node forgets a translated ${target.protocol.toUpperCase()} flow after ${value} s of silence${rule === undefined ? "" : ` (${rule.what})`}, applications rest for up to ${seconds} s`,
      owner: rule?.by === undefined ? OWNER : ownerOfDecision(rule.by),
      evidence: [
        ...(rule === undefined
          ? [sysctlEvidence(sysctl, value)]
          : [...ruleEvidence(rule.by), { source: rule.what, value: `${value} s at rest` }]),
        {
          source:
            target.protocol === "tcp" ? "TCP keepalive, by default first after" : "keepalives over UDP, each",
          value: `${seconds} s`,
        },
      ],
      consequence: "connections that are idle for longer hang, and are reset when one end sends again",
      fix: rule === undefined ? [context.setSysctl("node", sysctl, String(usual))] : [],
      advice: [
        ...(rule === undefined
          ? []
          : [`give ${rule.what} ${usual} s at rest, or except the pods from its rule`]),
        `or let the applications send keepalives more often than every ${value} s`,
      ],
      confidence: "possible",
    }),
  ];
}

/** A connection that conntrack does not know (any more) is not picked up, and a rule drops what it does not know. */
function strict(context: CheckContext): Finding[] {
  const name = TCP_LOOSE;
  if (context.target.protocol !== "tcp" || context.node.view.sysctl(name) !== 0) return [];
  const by = dropsInvalid(context);
  if (by === undefined) return [];
  return [
    finding("conntrack-not-loose", {
      text: `nf_conntrack_tcp_loose is 0 and “${decisionText(by)}” in ${by.chain.name} drops invalid packets: a connection that conntrack has forgotten hangs`,
      owner: OWNER,
      evidence: [sysctlEvidence(name, 0), ...ruleEvidence(by)],
      consequence:
        "after a flush, a timeout or a restart of the node's firewall, open connections hang for ever",
      fix: [context.setSysctl("node", name, "1")],
      confidence: "possible",
    }),
  ];
}
