/** What a person gives as the destination of a trace, and what is sent there. */
import { canonicalIp, isIp } from "../../address/ip.ts";
import { WayoutError } from "../../error.ts";
import { present } from "../../present.ts";

export type TraceProtocol = "tcp" | "udp" | "icmp";

/** A destination as it was written; the name is not resolved yet. */
export interface TraceTarget {
  /** Name or address. */
  readonly host: string;
  readonly protocol: TraceProtocol;
  /** Absent for ICMP, and for any. */
  readonly port?: number;
  /** GET this path once connected. */
  readonly httpPath?: string;
}

export interface TargetOptions {
  readonly protocol?: string;
  readonly port?: string;
  /** Fetch a page; a destination that is an http:// URL implies it. */
  readonly http?: boolean;
  /** Without a port any is meant, instead of the usual one. */
  readonly anyPort?: boolean;
}

const DEFAULT_PORTS = { tcp: 443, udp: 53 } as const;

/** Reads `HOST`, `HOST:PORT`, `[V6]:PORT` or `http://HOST[:PORT]/PATH`. @throws WayoutError bad-destination */
export function parseTarget(text: string, options: TargetOptions = {}): TraceTarget {
  const url = /^[a-z]+:\/\//.test(text) ? parseUrl(text) : undefined;
  const { host, port: written } = url ?? splitPort(text);
  const http = url !== undefined || options.http === true;
  const protocol = readProtocol(options.protocol ?? "tcp");
  if (http && protocol !== "tcp") throw badDestination(text, "HTTP runs over TCP", "Leave --proto out.");
  const port = options.port === undefined ? written : readPort(options.port);
  if (protocol === "icmp") {
    if (port !== undefined) throw badDestination(text, "ICMP has no ports", "Leave the port out.");
    return { host, protocol };
  }
  const usual = options.anyPort === true ? {} : { port: http ? 80 : DEFAULT_PORTS[protocol] };
  return {
    host,
    protocol,
    ...(port === undefined ? usual : { port }),
    ...present({ httpPath: http ? (url?.path ?? "/") : undefined }),
  };
}

function parseUrl(text: string): { host: string; port: number | undefined; path: string } {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw badDestination(text, "it is no URL", "Write http://HOST/PATH.");
  }
  if (url.protocol !== "http:") {
    throw badDestination(
      text,
      `${url.protocol}// is not supported`,
      "Trace the connection alone: give HOST:443 instead.",
    );
  }
  const host = url.hostname.replace(/^\[|\]$/g, "");
  return {
    host: isIp(host) ? canonicalIp(host) : host,
    port: url.port === "" ? undefined : Number(url.port),
    path: url.pathname + url.search,
  };
}

function splitPort(text: string): { host: string; port: number | undefined } {
  if (isIp(text)) return { host: canonicalIp(text), port: undefined };
  const bracketed = /^\[([^\]]+)\](?::(\d+))?$/.exec(text);
  const plain = bracketed ?? /^([^:[\]/\s]+)(?::(\d+))?$/.exec(text);
  const host = plain?.[1];
  if (host === undefined || (bracketed !== null && !isIp(host))) {
    throw badDestination(
      text,
      "it is neither an address nor a name",
      "Write HOST, HOST:PORT or [ADDRESS]:PORT.",
    );
  }
  const looksNumeric = /^[\d.]+$/.test(host);
  if (looksNumeric && !isIp(host))
    throw badDestination(text, `${host} is no IP address`, "Four numbers from 0 to 255.");
  return {
    host: isIp(host) ? canonicalIp(host) : host,
    port: plain?.[2] === undefined ? undefined : readPort(plain[2]),
  };
}

function readProtocol(text: string): TraceProtocol {
  if (text === "tcp" || text === "udp" || text === "icmp") return text;
  throw badDestination(text, "this protocol cannot be traced", "--proto takes tcp, udp or icmp.");
}

function readPort(text: string): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  if (port < 1 || port > 65_535) throw badDestination(text, "it is no port", "Ports go from 1 to 65535.");
  return port;
}

function badDestination(text: string, said: string, todo: string): WayoutError {
  return new WayoutError({
    code: "bad-destination",
    kind: "usage",
    doing: `reading the destination "${text}"`,
    said,
    todo,
  });
}
