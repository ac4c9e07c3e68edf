/**
 * Writes deploy/helm/wayout from deploy/kubernetes, so that there is one description of the DaemonSet and its rights.
 * `--check` writes nothing, and fails where a file would change.
 *
 * What the chart's values decide is put in as marks that YAML takes for text; when all is text they become Helm's language.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { parseAllDocuments, stringify } from "yaml";
import { VERSION } from "../src/version.ts";

const ROOT = join(import.meta.dir, "..");
const SOURCE = join(ROOT, "deploy", "kubernetes");
const CHART = join(ROOT, "deploy", "helm", "wayout");
const NAMESPACE = mark("{{ .Release.Namespace }}");

interface Manifest {
  readonly kind: string;
  readonly metadata: { readonly name: string; namespace?: string };
}

/** An optional role of the kustomization, and the value that switches it on. */
const ROLES = ["status", "events", "taint", "egress"] as const;

const files: Readonly<Record<string, string>> = {
  "Chart.yaml": stringify({
    apiVersion: "v2",
    name: "wayout",
    description:
      "A cluster without overlay: pods reach each other across nodes, and the outside from every node",
    type: "application",
    version: VERSION,
    appVersion: VERSION,
    kubeVersion: ">=1.30.0-0",
  }),
  "templates/daemonset.yaml": templateOf(manifests("daemonset.yaml").map(asDaemonSet)),
  "templates/role.yaml": templateOf(manifests("role.yaml").map(inRelease)),
  ...Object.fromEntries(
    ROLES.map((role) => [
      `templates/role-${role}.yaml`,
      `{{- if .Values.roles.${role} }}\n${templateOf(manifests(`role-${role}.yaml`).map(inRelease))}{{- end }}\n`,
    ]),
  ),
};

let differs = false;
for (const [name, text] of Object.entries(files)) {
  const path = join(CHART, name);
  const before = existsSync(path) ? readFileSync(path, "utf8") : undefined;
  const whole =
    name === "Chart.yaml"
      ? text
      : `{{- /* Made by scripts/helm-chart.ts from deploy/kubernetes. */ -}}\n${text}`;
  if (before === whole) continue;
  differs = true;
  if (process.argv.includes("--check")) console.log(`${path} is not what scripts/helm-chart.ts makes`);
  else {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, whole);
  }
}
if (differs && process.argv.includes("--check")) process.exit(1);

function manifests(file: string): Manifest[] {
  return parseAllDocuments(readFileSync(join(SOURCE, file), "utf8")).map(
    (document) => document.toJS() as Manifest,
  );
}

/** Objects of a namespace are in the release's, but for those that say another. */
function inRelease(manifest: Manifest): Manifest {
  const text = JSON.stringify(manifest)
    .replaceAll('"namespace":"wayout"', `"namespace":"${NAMESPACE}"`)
    .replaceAll("serviceaccount:wayout:wayout", `serviceaccount:${NAMESPACE}:wayout`);
  const moved = JSON.parse(text) as Manifest;
  const isNamespaced = ["ServiceAccount", "DaemonSet"].includes(moved.kind);
  return isNamespaced ? { ...moved, metadata: { ...moved.metadata, namespace: NAMESPACE } } : moved;
}

interface DaemonSet extends Manifest {
  readonly spec: {
    readonly template: {
      readonly spec: {
        readonly containers: readonly {
          readonly args: readonly string[];
          readonly volumeMounts: readonly object[];
        }[];
        readonly volumes: readonly { readonly name: string; readonly hostPath: object }[];
      };
    };
  };
}

function asDaemonSet(manifest: Manifest): Manifest {
  const set = inRelease(manifest) as DaemonSet;
  const { template } = set.spec;
  const [container] = template.spec.containers;
  if (container === undefined) throw new Error("the DaemonSet has no container");
  const directories: Readonly<Record<string, string>> = {
    "cni-conf": mark("{{ .Values.cniConfDir | quote }}"),
    "cni-bin": mark("{{ .Values.cniBinDir | quote }}"),
  };
  const spec = {
    ...template.spec,
    nodeSelector: mark("{{ toJson .Values.nodeSelector }}"),
    containers: [
      {
        ...container,
        image: mark("{{ .Values.image.repository }}{{ with .Values.image.tag }}:{{ . }}{{ end }}"),
        args: [
          ...container.args,
          ...when(".Values.apiServer", [`--api-server=${mark("{{ .Values.apiServer }}")}`]),
          ...when(".Values.ipMasqAgentConfigMap", ["--ip-masq-agent-config=/etc/config/config"]),
          ...when(".Values.masqueradeToNodes", ["--masquerade-to-nodes"]),
          ...when(".Values.egressGrantsConfigMap", ["--egress-grants=/etc/egress/grants.yaml"]),
          ...when(".Values.startupTaint", [`--startup-taint=${mark("{{ .Values.startupTaint }}")}`]),
          line("{{- range .Values.extraArgs }}"),
          mark("{{ . | quote }}"),
          line("{{- end }}"),
        ],
        resources: mark("{{ toJson .Values.resources }}"),
        volumeMounts: [
          ...container.volumeMounts,
          ...when(".Values.ipMasqAgentConfigMap", [
            { name: "ip-masq-agent", mountPath: "/etc/config", readOnly: true },
          ]),
          ...when(".Values.egressGrantsConfigMap", [
            { name: "egress-grants", mountPath: "/etc/egress", readOnly: true },
          ]),
        ],
      },
    ],
    volumes: [
      ...template.spec.volumes.map((volume) => {
        const path = directories[volume.name];
        return path === undefined ? volume : { ...volume, hostPath: { ...volume.hostPath, path } };
      }),
      ...when(".Values.ipMasqAgentConfigMap", [
        {
          name: "ip-masq-agent",
          configMap: { name: mark("{{ .Values.ipMasqAgentConfigMap | quote }}"), optional: true },
        },
      ]),
      ...when(".Values.egressGrantsConfigMap", [
        { name: "egress-grants", configMap: { name: mark("{{ .Values.egressGrantsConfigMap | quote }}") } },
      ]),
    ],
  };
  return { ...set, spec: { ...set.spec, template: { ...template, spec } } } as Manifest;
}

/** Entries of a list that are there when a value is. */
function when<T>(value: string, entries: readonly T[]): (T | string)[] {
  return [line(`{{- if ${value} }}`), ...entries, line("{{- end }}")];
}

/** A piece of Helm's language within a value; hexadecimal, so that YAML quotes nothing. */
function mark(text: string): string {
  return `markb${Buffer.from(text).toString("hex")}markend`;
}

/** The same instead of a whole entry of a list. */
function line(text: string): string {
  return `lineb${Buffer.from(text).toString("hex")}lineend`;
}

function templateOf(documents: readonly Manifest[]): string {
  return documents
    .map((document) => stringify(document, { lineWidth: 0, aliasDuplicateObjects: false }))
    .join("---\n")
    .replaceAll(/^ *- lineb([0-9a-f]+)lineend$/gm, (_, hex: string) => Buffer.from(hex, "hex").toString())
    .replaceAll(/markb([0-9a-f]+)markend/g, (_, hex: string) => Buffer.from(hex, "hex").toString());
}
