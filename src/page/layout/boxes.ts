/** What stands on the picture between the pods and the outside, and what it says. Pure. */
import type { NodePicture, PictureFinding } from "../../agent/picture/picture.ts";
import { STAGE_TITLES, stageOf, type Stage } from "./stages.ts";

export interface StageBox {
  readonly key: string;
  readonly stage: Stage;
  readonly title: string;
  /** The name of the link; the title again where there is none. */
  readonly name: string;
  readonly lines: readonly string[];
  /** `shut`: packets of at least one pod end here. `unread`: nobody could look. */
  readonly state: "open" | "shut" | "warned" | "missing";
  readonly findings: readonly PictureFinding[];
}

export function boxesOf(picture: NodePicture): StageBox[] {
  const findings = Map.groupBy(picture.findings, ({ step }) => stageOf(step));
  const box = (stage: Stage, name: string, lines: readonly string[], missing = false): StageBox => {
    const own = findings.get(stage) ?? [];
    const shut = own.some(({ stopsTraffic }) => stopsTraffic);
    const warned = own.some(({ severity }) => severity !== "note");
    return {
      key: `${stage} ${name}`,
      stage,
      title: STAGE_TITLES[stage],
      name,
      lines,
      state: shut ? "shut" : missing ? "missing" : warned ? "warned" : "open",
      findings: own,
    };
  };
  const bridges = picture.bridges.map(({ name, addresses, up }) =>
    box("bridge", name, [firstOf(addresses), up ? "up" : "down"]),
  );
  const uplinks = picture.uplinks.map(({ name, addresses, up }) =>
    box("uplink", name, [firstOf(addresses), up ? "up" : "down"]),
  );
  const outgoing = [
    ...new Set(
      picture.pods.flatMap(({ leavesAs, addresses }) =>
        leavesAs === undefined || addresses.includes(leavesAs) ? [] : [leavesAs],
      ),
    ),
  ];
  return [
    ...bridges,
    box("forward", "forwarding", [forwardingText(picture.forwarding)]),
    box("translate", "NAT", [outgoing.length === 0 ? "no translation" : `as ${firstOf(outgoing)}`]),
    ...(uplinks.length === 0 ? [box("uplink", "no uplink", ["no default route"], true)] : uplinks),
  ];
}

function firstOf(addresses: readonly string[]): string {
  const [first = "no address", ...more] = addresses.map((one) => one.replace(/\/\d+$/, ""));
  return more.length === 0 ? first : `${first} +${more.length}`;
}

function forwardingText({ ipv4, ipv6 }: NodePicture["forwarding"]): string {
  const word = (on: boolean | undefined): string => (on === undefined ? "?" : on ? "on" : "off");
  return `IPv4 ${word(ipv4)} · IPv6 ${word(ipv6)}`;
}
