/** Small facts by which a prediction and a packet that was seen are both judged. Pure. */
import type { Link } from "../linux/route/link.ts";
import { isMulticastAddress, isPrivateAddress } from "../address/special-purpose.ts";

/** Whether nobody at the destination has a way back to the source: private networks know each other, the internet none. */
export function needsTranslation(source: string, destination: string): boolean {
  return isPrivateAddress(source) && !isPrivateAddress(destination) && !isMulticastAddress(destination);
}

/** A pod's interfaces but its loopback, and but those that a kernel module puts into every namespace (tunl0, sit0 …). */
export function linksOut(links: readonly Link[]): Link[] {
  return links.filter((link) => link.layer !== "loopback" && !isTemplate(link));
}

function isTemplate(link: Link): boolean {
  return !link.up && /^(?:tunl|sit|gre|gretap|erspan|ip6tnl|ip6gre|ip_vti|ip6_vti)0$/.test(link.name);
}

/** The interface that leads out where no route says it. @param promised its name by the runtime's word */
export function likelyLinkOut(links: readonly Link[], promised: string | undefined): Link | undefined {
  const candidates = linksOut(links);
  return (
    candidates.find((link) => link.name === promised) ??
    candidates.find((link) => link.kind === "veth") ??
    candidates[0]
  );
}
