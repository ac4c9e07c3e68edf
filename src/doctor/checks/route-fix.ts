/** Commands that take a route away or add one, with what they change. */
import { hostCidr, isHostCidr } from "../../address/ip.ts";
import { RT_TABLE, routingTableText } from "../../linux/route/constants.ts";
import type { Route } from "../../linux/route/route.ts";
import { command } from "../../text/command.ts";
import { ANYWHERE } from "../anywhere.ts";
import { familyFlag, type CheckContext } from "../check.ts";
import type { Fix } from "../finding.ts";
import type { RepairPlace } from "../remedy/repair.ts";
import { hopsOf, isDefaultRoute, routeText, routeWords } from "../predict/fib.ts";
import { linkRoute } from "../remedy/change.ts";

/** A default route is never taken away by a command of ours: what else leaves by it, nobody can tell from one packet. */
export function deleteRoute(
  context: CheckContext,
  place: RepairPlace,
  route: Route,
): { readonly fix: (Fix | undefined)[] } | { readonly advice: string[] } {
  const { links } = (place === "node" ? context.node : context.inside!).view.state;
  const text = routeText(route, links);
  if (isDefaultRoute(route)) return { advice: [`“${text}” must be deleted by the program that made it`] };
  const line = command`ip ${familyFlag(route.destination)} route del ${routeWords(route, links)}`;
  return { fix: [context.fix(place, line, undefined, { kind: "delete-route", place, route })] };
}

/** A route to the pod alone: right whatever became of its network's, and nobody else loses anything. @param table of the rule that the answers follow */
export function routeBack(
  context: CheckContext,
  destination: string,
  table: number = RT_TABLE.main,
): (Fix | undefined)[] {
  const { inLink } = context.path;
  if (inLink === undefined) return [];
  const prefix = hostCidr(destination);
  const where = table === RT_TABLE.main ? [] : ["table", routingTableText(table)];
  const line = command`ip ${familyFlag(destination)} route add ${prefix} dev ${inLink.name} ${where}`;
  const route = { ...linkRoute(inLink, prefix), table };
  const change = { kind: "add-route", place: "node", route } as const;
  return [context.fix("node", line, undefined, change)];
}

/**
 * A route that leads the answers away. One of this very address is nobody else's: without it that of the pod's network
 * counts. Beside another a route of the pod's own is added.
 */
export function routeBackBeside(
  context: CheckContext,
  destination: string,
  leading: Route | undefined,
): (Fix | undefined)[] {
  const isOwn = leading !== undefined && isHostCidr(leading.destination);
  if (!isOwn || leading.table !== RT_TABLE.main || leading.protocol === "kernel")
    return routeBack(context, destination);
  const removed = deleteRoute(context, "node", leading);
  return "fix" in removed ? removed.fix : [];
}

/** What refuses this one address is taken away; beside what refuses many, a route of the pod's own counts. */
export function routeBackPast(
  context: CheckContext,
  destination: string,
  refusing: Route | undefined,
): { readonly fix: readonly (Fix | undefined)[] } | { readonly advice: string[] } {
  const isOwn = refusing !== undefined && isHostCidr(refusing.destination);
  return isOwn ? deleteRoute(context, "node", refusing) : { fix: routeBack(context, destination) };
}

/** A route to the destination alone, by the gateway of a default route. @param by which one; the first where it is not said */
export function hostRoute(
  context: CheckContext,
  place: RepairPlace = "node",
  by?: Route,
): (Fix | undefined)[] {
  const { family, target } = context;
  // An address that stands for all is nobody's destination.
  if (target.address === ANYWHERE[family].address) return [];
  const { routes, links } = (place === "node" ? context.node : context.inside!).view.state;
  for (const route of by === undefined ? routes : [by]) {
    if (route.family !== family || route.table !== RT_TABLE.main || !isDefaultRoute(route)) continue;
    const hop = hopsOf(route).find((one) => one.gateway !== undefined);
    const link = links.find((one) => one.index === hop?.interface);
    if (hop?.gateway === undefined || link === undefined) continue;
    const prefix = hostCidr(target.address);
    const added = { ...linkRoute(link, prefix), gateway: hop.gateway };
    const line = command`ip ${familyFlag(prefix)} route add ${prefix} via ${hop.gateway} dev ${link.name}`;
    return [context.fix(place, line, undefined, { kind: "add-route", place, route: added })];
  }
  return [];
}
