/** The last chapter: everything is taken down. */
import { namedNamespaces } from "../../kernel/named-namespace.ts";
import { Rtnetlink } from "../../kernel/route/rtnetlink.ts";
import { LAB_NAMESPACES, PLAN } from "../plan.ts";
import type { Chapter } from "../story.ts";
import { removeNamespaces, type World } from "../world.ts";

export const teardown: Chapter<World> = {
  number: 11,
  title: "Everything is removed",
  intro:
    "Links, addresses, rules and sysctls belong to namespaces and go with them. What is left on the machine is read and " +
    "compared with what was there before the story.",
  act(world, report) {
    // With one end of a veth pair goes the other.
    using route = Rtnetlink.open(world.node);
    route.deleteLink(PLAN.node.uplink);
    world[Symbol.dispose]();
    removeNamespaces(LAB_NAMESPACES);
    const left = namedNamespaces();
    report({
      where: "wayout",
      command: LAB_NAMESPACES.map((name) => `ip netns delete ${name}`).join("; "),
      expected: "no namespace is left",
      found: left.length === 0 ? "none is left" : `left: ${left.join(", ")}`,
      ok: left.length === 0,
      evidence: [],
    });
  },
};
