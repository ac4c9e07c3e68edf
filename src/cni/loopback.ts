/**
 * The plugin `loopback`, which every runtime on libcni asks for before it attaches a sandbox to anything: the same program
 * under another type. What was reported before is handed on; otherwise lo and its addresses are the result.
 */
import { WayoutError } from "../error.ts";
import { LinkRtnetlink } from "../kernel/route/link-rtnetlink.ts";
import type { LinkState } from "../linux/route/link-state.ts";
import type { CniContext } from "./context.ts";
import { checkFailed } from "./failure.ts";
import { openPodNamespace } from "./pod-namespace.ts";
import { readResult, resultJson, type Result } from "./result.ts";
import { LOOPBACK_INDEX } from "../linux/link-layer.ts";

/**
 * What to print. A DEL has nothing to do: loopback goes with its namespace, whose path may lead to another pod by now.
 * @throws WayoutError `bad-namespace`, `check-failed`
 */
export function loopbackAnswer(context: CniContext): object | undefined {
  const result = loopback(context);
  return result === undefined ? undefined : resultJson(result, context.header.version);
}

function loopback(context: CniContext): Result | undefined {
  const { call, header } = context;
  if (call.command !== "ADD" && call.command !== "CHECK") return undefined;
  using pod = openPodNamespace(call.netns!, context.namespace);
  using inside = LinkRtnetlink.open(pod);
  if (call.command === "CHECK") {
    if (loopbackOf(inside).up) return undefined;
    throw checkFailed(
      `checking loopback of ${call.container}`,
      [{ code: "pod-loopback-down", text: "lo is down" }],
      "ip -n NAME link set lo up, or recreate the pod",
    );
  }
  inside.setLink(LOOPBACK_INDEX, { up: true });
  const earlier = header.fields.raw("prevResult");
  if (earlier !== undefined) return readResult(earlier, "prevResult", header.version);
  const { name, mac, mtu } = loopbackOf(inside);
  const addresses = inside.addresses({ interface: LOOPBACK_INDEX });
  return {
    interfaces: [{ name, ...(mac === undefined ? {} : { mac }), mtu, sandbox: call.netns! }],
    ips: addresses.map(({ address, prefixLength }) => ({
      interface: 0,
      address: `${address}/${prefixLength}`,
    })),
    routes: [],
    dns: {},
  };
}

function loopbackOf(inside: LinkRtnetlink): LinkState {
  const link = inside.linkState(LOOPBACK_INDEX);
  if (link !== undefined) return link;
  throw new WayoutError({
    code: "interface-missing",
    kind: "broken",
    doing: "reading interface lo",
    said: "the namespace has none",
  });
}
