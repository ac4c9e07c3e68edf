import { WayoutError } from "../error.ts";
import type { LinkState } from "../linux/route/link-state.ts";
import { sleep } from "../kernel/calls.ts";
import type { LinkRtnetlink } from "../kernel/route/link-rtnetlink.ts";

/** Longest that duplicate address detection takes with the usual settings is 2 s; the reference plugins wait 10. */
const DETECTION_TIMEOUT_MS = 10_000;
const DETECTION_POLL_MS = 20;

/**
 * Waits until the kernel has made sure that nobody else has an interface's IPv6 addresses (RFC 4862 5.4).
 * @throws WayoutError address-in-use
 */
export function awaitDetection(pod: LinkRtnetlink, end: LinkState): void {
  for (let waitedMs = 0; ; waitedMs += DETECTION_POLL_MS) {
    const own = pod.addresses({ family: 6, interface: end.index });
    const duplicate = own.find((address) => address.flags.includes("dadfailed"));
    const undecided = own.find((address) => address.flags.includes("tentative"));
    if (duplicate === undefined && undecided === undefined) return;
    if (duplicate !== undefined || waitedMs >= DETECTION_TIMEOUT_MS) {
      const { address } = duplicate ?? undecided!;
      throw new WayoutError({
        code: "address-in-use",
        kind: "broken",
        doing: `checking that ${address} is free`,
        said:
          duplicate === undefined
            ? `the kernel has not decided after ${waitedMs / 1000} s`
            : "another interface on the network has it",
        todo: "Release the address, or give another one.",
        details: { address },
      });
    }
    sleep(DETECTION_POLL_MS);
  }
}
