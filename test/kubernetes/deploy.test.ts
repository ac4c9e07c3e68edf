/** deploy/kubernetes: what kubectl makes of it, and that the agent knows every word. */
import { expect } from "bun:test";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { parseAllDocuments } from "yaml";
import { agentCommand } from "../../src/cli/agent.ts";
import { AGENT_CONTAINER, AGENT_LABEL } from "../../src/cli/kubectl/cluster.ts";
import { ask, testWith } from "../support/witness.ts";

const FOLDER = join(import.meta.dir, "..", "..", "deploy", "kubernetes");
const test = testWith([]);

const named = v.object({ metadata: v.object({ name: v.string() }) });
const rule = v.strictObject({
  apiGroups: v.array(v.string()),
  resources: v.array(v.string()),
  verbs: v.array(v.picklist(["get", "list", "watch", "patch", "create"])),
});
const subject = v.strictObject({
  kind: v.literal("ServiceAccount"),
  name: v.literal("wayout"),
  namespace: v.literal("wayout"),
});

/** The fields that we use, as the API has them: one that is misspelt is none of these. */
const CONTAINER = v.strictObject({
  name: v.literal(AGENT_CONTAINER),
  image: v.string(),
  args: v.array(v.string()),
  env: v.array(v.looseObject({ name: v.string() })),
  readinessProbe: v.strictObject({
    exec: v.strictObject({ command: v.array(v.string()) }),
    periodSeconds: v.number(),
    timeoutSeconds: v.number(),
  }),
  securityContext: v.strictObject({
    privileged: v.literal(false),
    allowPrivilegeEscalation: v.literal(false),
    readOnlyRootFilesystem: v.literal(true),
    seccompProfile: v.strictObject({ type: v.literal("Unconfined") }),
    appArmorProfile: v.strictObject({ type: v.literal("Unconfined") }),
    capabilities: v.strictObject({ drop: v.tuple([v.literal("ALL")]), add: v.array(v.string()) }),
  }),
  resources: v.strictObject({
    requests: v.record(v.string(), v.string()),
    limits: v.record(v.string(), v.string()),
  }),
  volumeMounts: v.array(
    v.strictObject({
      name: v.string(),
      mountPath: v.string(),
      mountPropagation: v.optional(v.literal("HostToContainer")),
    }),
  ),
});

const DAEMON_SET = v.object({
  apiVersion: v.literal("apps/v1"),
  spec: v.strictObject({
    selector: v.strictObject({ matchLabels: v.record(v.string(), v.string()) }),
    updateStrategy: v.strictObject({
      type: v.literal("RollingUpdate"),
      rollingUpdate: v.strictObject({ maxUnavailable: v.number() }),
    }),
    template: v.strictObject({
      metadata: v.strictObject({ labels: v.record(v.string(), v.string()) }),
      spec: v.strictObject({
        serviceAccountName: v.string(),
        hostNetwork: v.literal(true),
        hostPID: v.literal(true),
        tolerations: v.tuple([v.strictObject({ operator: v.literal("Exists") })]),
        priorityClassName: v.literal("system-node-critical"),
        terminationGracePeriodSeconds: v.number(),
        containers: v.tuple([CONTAINER]),
        volumes: v.array(
          v.strictObject({
            name: v.string(),
            hostPath: v.strictObject({
              path: v.string(),
              type: v.picklist(["Directory", "DirectoryOrCreate"]),
            }),
          }),
        ),
      }),
    }),
  }),
});

/**
 * What ours has of its kind in admissionregistration.k8s.io/v1: a misspelt key would be dropped by a server of 1.30, and with
 * it the restriction. No such server is asked here: what the expressions mean was tried with the code of k8s.io/apiserver 0.36.
 */
const ADMISSION_POLICY = v.strictObject({
  apiVersion: v.literal("admissionregistration.k8s.io/v1"),
  kind: v.string(),
  metadata: named.entries.metadata,
  spec: v.strictObject({
    failurePolicy: v.literal("Fail"),
    matchConstraints: v.strictObject({
      resourceRules: v.tuple([
        v.strictObject({
          apiGroups: v.tuple([v.literal("")]),
          apiVersions: v.tuple([v.literal("v1")]),
          operations: v.tuple([v.literal("UPDATE")]),
          resources: v.tuple([v.literal("nodes"), v.literal("nodes/status")]),
        }),
      ]),
    }),
    matchConditions: v.tuple([v.strictObject({ name: v.string(), expression: v.string() })]),
    validations: v.tuple([v.strictObject({ expression: v.string(), message: v.string() })]),
  }),
});

const KINDS: Readonly<Record<string, v.GenericSchema>> = {
  Namespace: named,
  ServiceAccount: named,
  ClusterRole: v.object({ rules: v.array(rule) }),
  Role: v.object({ rules: v.array(rule) }),
  ClusterRoleBinding: v.object({ subjects: v.tuple([subject]) }),
  RoleBinding: v.object({ subjects: v.tuple([subject]) }),
  DaemonSet: DAEMON_SET,
  ValidatingAdmissionPolicy: ADMISSION_POLICY,
  ValidatingAdmissionPolicyBinding: v.strictObject({
    apiVersion: v.literal("admissionregistration.k8s.io/v1"),
    kind: v.string(),
    metadata: named.entries.metadata,
    spec: v.strictObject({
      policyName: v.literal("wayout-own-node"),
      validationActions: v.tuple([v.literal("Deny")]),
    }),
  }),
};

interface Manifest {
  readonly kind: string;
  readonly metadata: { readonly name: string };
}

function manifests(text: string): Manifest[] {
  return parseAllDocuments(text).map((document) => document.toJS() as Manifest);
}

function everything(): Manifest[] {
  return readdirSync(FOLDER)
    .filter((file) => file !== "kustomization.yaml")
    .flatMap((file) => manifests(readFileSync(join(FOLDER, file), "utf8")));
}

test("each manifest has the shape of its kind, and nothing that is misspelt", () => {
  for (const manifest of everything()) {
    const schema = KINDS[manifest.kind];
    const read = schema === undefined ? undefined : v.safeParse(schema, manifest);
    expect([manifest.kind, read?.success, read?.issues?.map(({ message }) => message)]).toEqual([
      manifest.kind,
      true,
      undefined,
    ]);
  }
});

test("the base role reads nodes, and nothing else", () => {
  const roles = manifests(readFileSync(join(FOLDER, "role.yaml"), "utf8")) as unknown as {
    rules?: object[];
  }[];
  expect(roles.flatMap(({ rules = [] }) => rules)).toEqual([
    { apiGroups: [""], resources: ["nodes"], verbs: ["get", "list", "watch"] },
  ]);
});

test("every capability and every mount says what it is for, and every word of the command is known", () => {
  const text = readFileSync(join(FOLDER, "daemonset.yaml"), "utf8");
  const lines = text.split("\n");
  const reasoned = lines.filter((line) => /^ +- (?:[A-Z_]+$|\{ name: [\w-]+, mountPath)/.test(line));
  const bare = reasoned.filter((line) => {
    const before = lines[lines.indexOf(line) - 1]!.trim();
    return !before.startsWith("#") && !(line.trim() === "- PERFMON" && before === "- BPF");
  });
  expect([reasoned.length, bare]).toEqual([13, []]);
  const known = agentCommand().options.map(({ long }) => long);
  // The commented ones as well: they are there to be switched on.
  const given = [...text.matchAll(/^ +(?:# )?- (--[a-z-]+)/gm)].map(([, option]) => option!);
  expect(given).toContain("--kubernetes");
  expect(given.filter((option) => !known.includes(option))).toEqual([]);
  const [set] = everything().filter(({ kind }) => kind === "DaemonSet");
  const { spec } = v.parse(DAEMON_SET, set);
  expect(spec.template.metadata.labels).toEqual(spec.selector.matchLabels);
  const [key, value] = AGENT_LABEL.split("=");
  expect(spec.template.metadata.labels[key!]).toBe(value);
  const { containers, volumes } = spec.template.spec;
  expect(containers[0].volumeMounts.map((one) => one.name)).toEqual(volumes.map((one) => one.name));
});

testWith(["kubectl"])("kubectl renders it, all of it in one namespace", () => {
  const rendered = manifests(ask(undefined, ["kubectl", "kustomize", FOLDER]));
  expect(rendered.map(({ kind }) => kind).toSorted()).toEqual([
    "ClusterRole",
    "ClusterRoleBinding",
    "DaemonSet",
    "Namespace",
    "ServiceAccount",
  ]);
});
