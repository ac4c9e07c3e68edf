/**
 * Who may ask the agent what. Pure: everything that is known of a request comes in, a refusal or nothing goes out.
 *
 * The socket under /run/wayout is guarded by its mode (0600): who may open it is root anyway. Over HTTP
 * - the Host must be a name of this machine's loopback, or one that was configured: a page from elsewhere whose name was
 *   made to lead here (DNS rebinding) still says its own name;
 * - the peer must be on loopback unless others were allowed: with route_localnet, or a forwarded port, a pod could
 *   reach the listener, but not with such an address;
 * - all but /healthz need the token, or the page's cookie from the page itself;
 * - what changes or probes something must come from a page of this very address, or from no page at all.
 */
import { isLoopbackAddress } from "../../address/special-purpose.ts";
import { isIp } from "../../address/ip.ts";

/** `open`: to everybody who may connect. `read`: needs proof. `act`: changes or probes something. */
export type Access = "open" | "read" | "act";

/** What is known of a request. */
export interface Caller {
  readonly over: "socket" | "http";
  /** Address of the other end; absent over the socket. */
  readonly peer?: string;
  /** Header fields, as they came. */
  readonly host?: string;
  readonly origin?: string;
  readonly fetchSite?: string;
  readonly authorization?: string;
  readonly cookie?: string;
}

export interface AccessRules {
  /** What `Authorization: Bearer …` must say. */
  readonly token: string;
  /** Names besides loopback's under which the agent may be asked; lower case, without port. */
  readonly hosts: ReadonlySet<string>;
  /** Whether peers beyond loopback may ask. */
  readonly remotePeers: boolean;
  /** Whether a cookie is one that the page was given; absent where no page is served. */
  readonly isPage?: (cookie: string) => boolean;
}

export interface Refusal {
  readonly status: 401 | 403 | 421;
  readonly code: string;
  readonly said: string;
}

/** undefined: go on. */
export function refusal(caller: Caller, access: Access, rules: AccessRules): Refusal | undefined {
  if (caller.over === "socket") return undefined;
  if (!isOurHost(caller.host, rules)) {
    return refuse(421, "wrong-host", "this agent does not answer to that Host name; --host NAME allows it");
  }
  if (!rules.remotePeers && !isLoopbackPeer(caller.peer)) {
    return refuse(
      403,
      "remote-peer",
      "this agent answers peers on its own machine only; --remote allows others",
    );
  }
  if (access === "open") return undefined;
  if (access === "act" && !isOwnPage(caller)) {
    return refuse(
      403,
      "cross-origin",
      "requests that change or probe something are refused when another web page sends them",
    );
  }
  if (hasToken(caller, rules) || hasCookie(caller, rules)) return undefined;
  return refuse(
    401,
    "no-token",
    "the request needs the header 'Authorization: Bearer TOKEN'; the token is in the agent's token file",
  );
}

function refuse(status: Refusal["status"], code: string, said: string): Refusal {
  return { status, code, said };
}

const LOOPBACK_NAMES: ReadonlySet<string> = new Set(["localhost", "127.0.0.1", "[::1]"]);

function isOurHost(host: string | undefined, rules: AccessRules): boolean {
  if (host === undefined) return false;
  const name = host.toLowerCase().replace(/:\d{1,5}$/, "");
  return LOOPBACK_NAMES.has(name) || rules.hosts.has(name);
}

/** An IPv4 peer of a dual-stack listener is written `::ffff:127.0.0.1`. */
function isLoopbackPeer(peer: string | undefined): boolean {
  const address = peer?.replace(/^::ffff:/i, "");
  return address !== undefined && isIp(address) && isLoopbackAddress(address);
}

/** Programs send neither field; browsers send at least one, and no page can forge them. */
export function isOwnPage({ host, origin, fetchSite }: Caller): boolean {
  if (fetchSite !== undefined && fetchSite !== "same-origin") return false;
  if (origin === undefined) return true;
  try {
    return new URL(origin).host.toLowerCase() === host?.toLowerCase();
  } catch {
    return false;
  }
}

/** Browsers send a cookie along with what pages of other ports ask as well: it counts for our own page alone. */
function hasCookie(caller: Caller, { isPage }: AccessRules): boolean {
  return caller.cookie !== undefined && isPage?.(caller.cookie) === true && isOwnPage(caller);
}

function hasToken({ authorization }: Caller, { token }: AccessRules): boolean {
  const given = /^Bearer (\S+)$/i.exec(authorization ?? "")?.[1];
  return given !== undefined && isSameSecret(given, token);
}

/** Takes as long for a wrong first letter as for a wrong last one. */
export function isSameSecret(given: string, secret: string): boolean {
  const [a, b] = [given, secret].map((text) => new Bun.CryptoHasher("sha256").update(text).digest());
  let differs = 0;
  for (const [index, byte] of a!.entries()) differs |= byte ^ b![index]!;
  return differs === 0;
}
