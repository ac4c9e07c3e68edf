/**
 * Every question that the agent answers, as data: the server, the OpenAPI document and the tests derive from this table.
 */
import * as v from "valibot";
import { EVENT_KINDS } from "../../naming/event-kinds.ts";
import type { Access } from "./access.ts";
import type { Answer } from "./answer.ts";
import type { AgentView } from "./view.ts";

/** What a route is given. */
export interface Ask {
  readonly view: AgentView;
  /** Checked already: `{pod}` of the path, then what stands behind `?`. */
  readonly parameters: Readonly<Record<string, string>>;
}

export interface Parameter {
  readonly name: string;
  readonly in: "path" | "query";
  readonly about: string;
  readonly schema: v.GenericSchema<string, string>;
  /** Of a query: must be given. Those of the path always are. */
  readonly required?: true;
}

export interface ApiRoute {
  readonly method: "GET" | "POST";
  /** `/v1/pods/{pod}` */
  readonly path: string;
  readonly access: Access;
  readonly about: string;
  readonly parameters: readonly Parameter[];
  /** What comes back, in words. */
  readonly returns: string;
  readonly answer: (ask: Ask) => Promise<Answer>;
}

const short = v.pipe(v.string(), v.minLength(1), v.maxLength(512), v.regex(/^\P{Cc}*$/u));
/** Never an option of ours. */
const word = v.pipe(
  short,
  v.check((text) => !text.startsWith("-"), "must not begin with a dash"),
);
const count = v.pipe(v.string(), v.regex(/^\d{1,6}$/, "must be a number"));
/** Of an event: the journal counts on as long as it lives. */
const eventId = v.pipe(v.string(), v.regex(/^\d{1,15}$/, "must be the id of an event"));
const protocol = v.pipe(v.string(), v.picklist(["tcp", "udp", "icmp"]));
const kind = v.pipe(v.string(), v.picklist(EVENT_KINDS));
const moment = v.pipe(
  v.string(),
  v.maxLength(40),
  v.check((text) => !Number.isNaN(Date.parse(text)), "must be a time as ISO 8601 writes it"),
);

const pod: Parameter = {
  name: "pod",
  in: "path",
  about: "name, container id, namespace/pod or address of a pod",
  schema: word,
};
const query = (name: string, about: string, schema: Parameter["schema"]): Parameter => ({
  name,
  in: "query",
  about,
  schema,
});

const then = query("at", "judge the node as it was then, from the journal", moment);

/** A filter of flows as `wayout conntrack list` has it. */
const FLOW_FILTERS = {
  pod: "flows of this pod",
  state: "ESTABLISHED, SYN_SENT, …; unreplied, replied or assured",
  proto: "tcp, udp, icmp, …",
  src: "the source: an address or a CIDR",
  dst: "the destination: an address or a CIDR",
  dport: "destination port, or a range",
  "reply-dst": "the outgoing address after SNAT",
  sort: "timeout, age, bytes, packets, source, destination, outside, protocol or state",
} as const;

export const ROUTES: readonly ApiRoute[] = [
  {
    method: "GET",
    path: "/healthz",
    access: "open",
    about: "whether the agent runs",
    parameters: [],
    returns: "`ok`",
    answer: async () => ({ kind: "text", text: "ok\n", type: "text/plain" }),
  },
  {
    method: "GET",
    path: "/readyz",
    access: "read",
    about: "whether everything is as configured",
    parameters: [],
    returns: "`ready`, and what is not as configured; status 503 when something is not",
    answer: async ({ view }) => {
      const troubles = view.troubles();
      return {
        kind: "json",
        value: { ready: troubles.length === 0, troubles },
        status: troubles.length === 0 ? 200 : 503,
      };
    },
  },
  {
    method: "GET",
    path: "/metrics",
    access: "read",
    about: "figures for Prometheus",
    parameters: [],
    returns: "the text format of Prometheus",
    answer: async ({ view }) => ({ kind: "text", ...(await view.metrics()) }),
  },
  {
    method: "GET",
    path: "/v1/node",
    access: "read",
    about: "what the agent keeps in place, and its state",
    parameters: [],
    returns: "version, start time, policy, journal, what is configured, current problems, last repairs",
    answer: async ({ view }) => ({ kind: "json", value: view.node() }),
  },
  {
    method: "GET",
    path: "/v1/picture",
    access: "read",
    about: "the node as one picture: pods, bridges, uplinks, and where whose packets end; sends no packet",
    parameters: [
      then,
      query(
        "age",
        "seconds: a picture that the agent has is good enough if it is no older; default 0",
        count,
      ),
    ],
    returns: "what the page draws",
    answer: async ({ view, parameters: { at, age = "0" } }) => view.picture(at, age),
  },
  {
    method: "GET",
    path: "/v1/figures",
    access: "read",
    about: "how full the connection table was over the last hour",
    parameters: [],
    returns: "entries and limit, every ten seconds",
    answer: async ({ view }) => ({ kind: "json", value: view.figures() }),
  },
  {
    method: "GET",
    path: "/v1/figures/ports",
    access: "read",
    about: "how many source ports the fullest destinations needed over the last hour",
    parameters: [],
    returns: "the five fullest, every minute or less often, by how long looking through the table takes",
    answer: async ({ view }) => ({ kind: "json", value: view.portFigures() }),
  },
  {
    method: "POST",
    path: "/v1/page/code",
    access: "act",
    about: "a code that lets one browser in, once, within a minute",
    parameters: [],
    returns: "`url`: the page's address with the code, which never reaches a server in it",
    answer: async ({ view }) => ({ kind: "json", value: { url: view.pageUrl() } }),
  },
  {
    method: "GET",
    path: "/v1/pods",
    access: "read",
    about: "the pods of this node, and whether their way out works",
    parameters: [],
    returns: "as `wayout list --json`",
    answer: async ({ view }) => view.ask(["list", "--json"]),
  },
  {
    method: "GET",
    path: "/v1/nat",
    access: "read",
    about: "every NAT rule of the node in the order in which packets meet it, with its owner",
    parameters: [],
    returns: "as `wayout nat show --json`",
    answer: async ({ view }) => view.ask(["nat", "show", "--json"]),
  },
  {
    method: "GET",
    path: "/v1/explain",
    access: "read",
    about:
      "without sending anything: is a packet translated, to which address, by which owner and which line of the policy",
    parameters: [
      { ...query("src", "a pod, or an address", word), required: true },
      { ...query("dst", "an address", word), required: true },
      query("proto", "tcp, udp or icmp", protocol),
      query("port", "destination port", count),
    ],
    returns: "as `wayout nat explain SRC DST --json`",
    answer: async ({ view, parameters: { src = "", dst = "", proto = "tcp", port } }) =>
      view.ask([
        "nat",
        "explain",
        src,
        dst,
        "--json",
        "--proto",
        proto,
        ...(port === undefined ? [] : ["--port", port]),
      ]),
  },
  {
    method: "GET",
    path: "/v1/policy",
    access: "read",
    about: "the policy: where it stands, what of it is in force, and why not all of it",
    parameters: [],
    returns:
      "`place`, `files` with their text as it was read, `inForce`; `trouble` while the files cannot be used, `warnings`",
    answer: async ({ view }) => ({ kind: "json", value: view.policy() }),
  },
  {
    method: "GET",
    path: "/v1/forwarding",
    access: "read",
    about: "whether the node routes packets for others",
    parameters: [],
    returns: "as `wayout forwarding show --json`",
    answer: async ({ view }) => view.ask(["forwarding", "show", "--json"]),
  },
  {
    method: "GET",
    path: "/v1/doctor",
    access: "read",
    about: "the checklist of all pods at a glance; sends no packet",
    parameters: [then],
    returns: "as `wayout doctor --json`",
    answer: async ({ view, parameters: { at } }) => view.ask(["doctor", "--json", ...view.wordsFor(at)]),
  },
  {
    method: "GET",
    path: "/v1/pods/{pod}/doctor",
    access: "read",
    about: "the checklist of one pod; sends no packet",
    parameters: [pod, query("to", "the destination: HOST, HOST:PORT or [V6]:PORT", word), then],
    returns: "as `wayout doctor POD --no-probe --json`",
    answer: async ({ view, parameters: { pod: name = "", to, at } }) =>
      view.ask([
        "doctor",
        name,
        "--no-probe",
        "--json",
        ...(to === undefined ? [] : ["--to", to]),
        ...view.wordsFor(at),
      ]),
  },
  {
    method: "POST",
    path: "/v1/pods/{pod}/trace",
    access: "act",
    about: "sends one real packet from the pod, and shows the nine steps of its way",
    parameters: [
      pod,
      { ...query("to", "where to: HOST, HOST:PORT or [V6]:PORT", word), required: true },
      query("proto", "tcp, udp or icmp", protocol),
    ],
    returns: "as `wayout trace POD TO --json`",
    answer: async ({ view, parameters: { pod: name = "", to = "", proto = "tcp" } }) =>
      view.ask(["trace", name, to, "--proto", proto, "--json"]),
  },
  {
    method: "GET",
    path: "/v1/flows",
    access: "read",
    about: "tracked connections, each shown as a translation",
    parameters: [
      ...Object.entries(FLOW_FILTERS).map(([name, about]) => query(name, about, word)),
      query("of", "pods: flows of this node's pods only", v.pipe(v.string(), v.picklist(["pods"]))),
      query("limit", "at most this many; default 100, highest 2000", count),
      query("offset", "without the first ones, this many: the next page", count),
    ],
    returns: "as `wayout conntrack list --json`; without `sort` in the kernel's order, which stays as it is",
    answer: async ({ view, parameters: { limit = "100", offset = "0", of, ...filters } }) =>
      view.ask([
        "conntrack",
        "list",
        "--json",
        "--limit",
        String(Math.min(Number(limit), 2000)),
        "--offset",
        offset,
        ...(of === undefined ? [] : ["--of-pods"]),
        ...Object.entries(filters).flatMap(([name, value]) => [`--${name}`, value]),
      ]),
  },
  {
    method: "GET",
    path: "/v1/flows/statistics",
    access: "read",
    about: "how full the table is, what was lost, and which source ports run out",
    parameters: [],
    returns: "as `wayout conntrack stats --json`",
    answer: async ({ view }) => view.ask(["conntrack", "stats", "--json"]),
  },
  {
    method: "GET",
    path: "/v1/history",
    access: "read",
    about: "what changed, when, and by whom",
    parameters: [
      query("since", "since this time", moment),
      query("until", "until this time", moment),
      query("pod", "only events of this pod", word),
      query("kind", `only events of this kind: ${EVENT_KINDS.join(", ")}`, kind),
      query("after", "only events with a larger id", eventId),
      query("limit", "the newest ones, this many; default 1000", count),
    ],
    returns: "events in the order of time",
    answer: async ({ view, parameters }) => ({ kind: "json", value: view.history(parameters) }),
  },
  {
    method: "GET",
    path: "/v1/snapshot",
    access: "read",
    about: "the node as it was, from the journal; without `at` as it was last",
    parameters: [query("at", "when", moment)],
    returns: "a snapshot, as `wayout doctor --snapshot` reads it",
    answer: async ({ view, parameters: { at } }) => ({ kind: "json", value: view.snapshotAt(at) }),
  },
  {
    method: "GET",
    path: "/v1/events",
    access: "read",
    about: "events as they happen; with Last-Event-ID the missed ones come first",
    parameters: [query("after", "as Last-Event-ID, for programs that cannot set it", eventId)],
    returns:
      "server-sent events; after `reset` a client must read everything again; `changed` says that something did, here or in a pod, of which there may be no event, `looked` that the agent has a new picture of it",
    answer: async ({ view, parameters: { after } }) => view.events(after),
  },
];

/** Only where the agent keeps a lab. */
export const LAB_ROUTES: readonly ApiRoute[] = [
  {
    method: "GET",
    path: "/v1/lab",
    access: "read",
    about: "over a lab only: whether it is up, and which faults are in place",
    parameters: [],
    returns: "as `wayout lab status --json`",
    answer: async ({ view }) => view.ask(["lab", "status", "--json"]),
  },
  {
    method: "GET",
    path: "/v1/lab/faults",
    access: "read",
    about: "over a lab only: faults to practise on",
    parameters: [],
    returns: "as `wayout lab break --list --json`",
    answer: async ({ view }) => view.ask(["lab", "break", "--list", "--json"]),
  },
  {
    method: "POST",
    path: "/v1/lab/break",
    access: "act",
    about: "over a lab only: makes a fault",
    parameters: [query("fault", "the fault's name; without one a fault is chosen at random", word)],
    returns: "as `wayout lab break FAULT --json`",
    answer: async ({ view, parameters: { fault } }) =>
      view.ask(["lab", "break", ...(fault === undefined ? [] : [fault]), "--json"]),
  },
  {
    method: "POST",
    path: "/v1/lab/mend",
    access: "act",
    about: "over a lab only: undoes faults",
    parameters: [query("fault", "the fault's name; without one all are undone", word)],
    returns: "as `wayout lab mend --json`",
    answer: async ({ view, parameters: { fault } }) =>
      view.ask(["lab", "mend", ...(fault === undefined ? [] : [fault]), "--json"]),
  },
  {
    method: "POST",
    path: "/v1/lab/story",
    access: "act",
    about: "over a lab only: runs the story in namespaces of its own, and proves each step",
    parameters: [],
    returns: "as `wayout lab --json`",
    answer: async ({ view }) => view.ask(["lab", "--json"]),
  },
];
