/** The API as an OpenAPI document, made from the table of routes. */
import { VERSION } from "../../version.ts";
import { LAB_ROUTES, ROUTES, type ApiRoute } from "./routes.ts";
import { present } from "../../present.ts";

const ERROR = {
  type: "object",
  required: ["error"],
  properties: {
    error: {
      type: "object",
      required: ["code", "message"],
      properties: {
        code: { type: "string", description: "stable, for programs" },
        message: { type: "string" },
        todo: { type: "string", description: "what to do next" },
      },
    },
  },
} as const;

export function openApiDocument(): unknown {
  const paths: Record<string, Record<string, unknown>> = {};
  for (const route of [...ROUTES, ...LAB_ROUTES])
    (paths[route.path] ??= {})[route.method.toLowerCase()] = operationOf(route);
  return {
    openapi: "3.1.0",
    info: {
      title: "wayout agent",
      version: VERSION,
      description:
        "Over the socket under /run/wayout/agent (0600) no token is needed. Over HTTP (--listen) everything but /healthz needs the token; the Host must be a name of loopback or one given with --host, the peer on loopback unless --remote was given, and requests that change or probe something are refused when another web page sends them.",
    },
    components: {
      securitySchemes: { token: { type: "http", scheme: "bearer" } },
      schemas: { Error: ERROR },
    },
    paths,
  };
}

function operationOf({ about, access, parameters, returns }: ApiRoute) {
  return present({
    summary: about,
    security: access === "open" ? undefined : [{ token: [] }],
    parameters: parameters.map((one) => ({
      name: one.name,
      in: one.in,
      required: one.in === "path" || one.required === true,
      description: one.about,
      schema: { type: "string" },
    })),
    responses: {
      "200": { description: returns },
      default: {
        description: "a refusal, or a failure",
        content: { "application/json": { schema: { $ref: "#/components/schemas/Error" } } },
      },
    },
  });
}
