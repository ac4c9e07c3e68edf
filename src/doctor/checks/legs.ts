/** Every next hop of a multipath route is judged: flows that are sent by one that fails are lost. */
import type { NextHop, Route } from "../../linux/route/route.ts";
import { command } from "../../text/command.ts";
import { familyFlag, finding, type CheckContext } from "../check.ts";
import type { Finding, Fix } from "../finding.ts";
import { hopsOf, routeText, routeWords } from "../predict/fib.ts";
import type { Leg } from "../predict/predict.ts";
import type { Stop } from "../predict/path.ts";
import { stopText } from "../stop-text.ts";
import { present } from "../../present.ts";

/** What ends at the leg itself, wherever the packet comes from: without that next hop the others have it all. */
const DEAD_ENDS: ReadonlySet<Stop["kind"]> = new Set<Stop["kind"]>(["no-carrier", "neighbour-failed"]);

/** Those of which a finding tells, in the same order. Where all fail, the route is not the reason. */
export function legsThatFail({ legs }: CheckContext["predicted"]): readonly Leg[] {
  const failing = legs.filter((leg) => leg.path.stops.length > 0);
  return failing.length === legs.length ? [] : failing;
}

export function failingLegs(context: CheckContext): Finding[] {
  return legsThatFail(context.predicted).map((leg) =>
    leg.passedOver ? passedOver(context, leg) : failing(context, leg),
  );
}

function failing(context: CheckContext, leg: Leg): Finding {
  const { legs } = context.predicted;
  const total = legs.reduce((sum, one) => sum + one.weight, 0);
  const { by, route, evidence } = told(context, leg);
  const stop = leg.path.stops[0]!;
  const untranslated = stop.kind === "untranslated";
  const why = untranslated
    ? `is not translated (${stop.source} leaves as it is)`
    : `fails: ${stopText(stop)}`;
  const found = finding(
    "leg-fails",
    present({
      text: `the leg by ${by} of “${route}” ${why}; it takes ${leg.weight} of ${total} parts of the flows`,
      owner: "the node's routing",
      evidence,
      consequence:
        leg.taken === undefined
          ? "some connections work and others do not, by a hash of their addresses and ports"
          : leg.taken
            ? "all connections to this destination take this leg; others may work"
            : "this destination takes another leg and works; others do not",
      ...(DEAD_ENDS.has(stop.kind)
        ? {
            fix: [withoutFailing(context, leg)],
            advice: [`mend what stops it there, and give the route its next hop by ${by} back then`],
          }
        : {
            advice: [
              untranslated
                ? `translate what leaves by ${by}, too: a rule without an interface, or one for each`
                : `mend what stops it there, or take ${by} out of the route`,
            ],
          }),
      share: leg.taken === undefined ? leg.weight / total : undefined,
    }),
  );
  return leg.taken === false ? { ...found, stopsTraffic: false, severity: "warning" } : found;
}

/** The kernel knows that its neighbour does not answer, and sends nothing there. */
function passedOver(context: CheckContext, leg: Leg): Finding {
  const { by, route, evidence } = told(context, leg);
  const why =
    leg.route.nextHopId === undefined
      ? "net.ipv4.fib_multipath_use_neigh is 1"
      : "as of every nexthop object";
  return finding("leg-passed-over", {
    text: `the leg by ${by} of “${route}” is out of use: ${stopText(leg.path.stops[0]!)}, and the kernel passes it over (${why})`,
    owner: "the network outside the node",
    evidence,
    consequence:
      "the other next hops take all flows; where the kernel tries this one again, a connection waits in vain",
    advice: [`see whether ${leg.gateway ?? by} is up, or take it out of the route`],
  });
}

function told(
  context: CheckContext,
  leg: Leg,
): { readonly by: string; readonly route: string; readonly evidence: Finding["evidence"] } {
  const { state } = (leg.place === "node" ? context.node : context.inside!).view;
  const name = leg.link?.name ?? "a link that is gone";
  const twins = context.predicted.legs.filter((one) => one.link === leg.link);
  const by = twins.length > 1 && leg.gateway !== undefined ? `${name} via ${leg.gateway}` : name;
  const route = routeText(leg.route, state.links);
  return {
    by,
    route,
    evidence: [
      { source: leg.place === "node" ? "ip route" : `ip route in ${context.pod.name}`, value: route },
      { source: `what goes by ${by}`, value: stopText(leg.path.stops[0]!) },
    ],
  };
}

/** The route as it is, with those of its next hops by which packets get through. */
function withoutFailing(context: CheckContext, { place, route }: Leg): Fix | undefined {
  const works = (hop: NextHop): boolean =>
    context.predicted.legs.some(
      (leg) =>
        leg.route === route &&
        leg.path.stops.length === 0 &&
        leg.link?.index === hop.interface &&
        leg.gateway === hop.gateway,
    );
  const by = routeBy(route, hopsOf(route).filter(works));
  if (by === undefined) return undefined;
  const { links } = (place === "node" ? context.node : context.inside!).view.state;
  const line = command`ip ${familyFlag(route.destination)} route replace ${routeWords(by, links)}`;
  return context.fix(place, line, undefined, { kind: "replace-route", place, route, by });
}

function routeBy(route: Route, hops: readonly NextHop[]): Route | undefined {
  const [first, ...others] = hops;
  if (first === undefined) return undefined;
  const { nextHops: _, nextHopId: __, ...rest } = route;
  if (others.length > 0) return { ...rest, nextHops: hops };
  return present({ ...rest, interface: first.interface, gateway: first.gateway, flags: first.flags });
}
