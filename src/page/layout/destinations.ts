/** Whom the pods talk to now: flows put together by their destination. Pure. */
import type { NodePicture, PicturePod } from "../../agent/picture/picture.ts";
import type { FlowRecord } from "../../flows/flow-record.ts";
import { endText } from "./flow-text.ts";

/** A flow of a pod on the picture. */
export interface ShownFlow {
  readonly key: string;
  readonly record: FlowRecord;
  readonly pod: PicturePod;
}

export interface Destination {
  readonly key: string;
  readonly text: string;
  readonly about: string;
  readonly flows: readonly ShownFlow[];
}

/** Beyond so many, the rest stand together. */
const MOST = 6;

/** The flows that pods of the picture began, the newest first. */
export function shownFlows(records: readonly FlowRecord[], pods: readonly PicturePod[]): ShownFlow[] {
  const byAddress = new Map(pods.flatMap((pod) => pod.addresses.map((address) => [address, pod] as const)));
  return records.flatMap((record) => {
    const pod = byAddress.get(record.original.source);
    return pod === undefined ? [] : [{ key: String(record.id ?? record.original.sourcePort), record, pod }];
  });
}

export function destinationsOf(flows: readonly ShownFlow[], picture: NodePicture): Destination[] {
  const groups = [...Map.groupBy(flows, ({ record }) => targetText(record))]
    .map(([text, own]): Destination => ({ key: text, text, about: aboutText(own), flows: own }))
    .toSorted((a, b) => b.flows.length - a.flows.length || (a.text < b.text ? -1 : 1));
  if (groups.length === 0) return [outside(picture)];
  if (groups.length <= MOST) return groups;
  const rest = groups.slice(MOST - 1).flatMap((one) => one.flows);
  const more = groups.length - MOST + 1;
  return [
    ...groups.slice(0, MOST - 1),
    { key: "others", text: `${more} others`, about: aboutText(rest), flows: rest },
  ];
}

function targetText({ translation, protocolName }: FlowRecord): string {
  return `${endText(translation.destination)} ${protocolName}`;
}

function aboutText(flows: readonly ShownFlow[]): string {
  return flows.length === 1 ? "1 connection" : `${flows.length} connections`;
}

function outside({ uplinks }: NodePicture): Destination {
  const gateways = uplinks.flatMap((one) => one.gateways);
  const about = gateways.length === 0 ? "no connection now" : `via ${gateways[0]}`;
  return { key: "outside", text: "the outside", about, flows: [] };
}
