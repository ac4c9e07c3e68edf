/** What a route answers. */
export type Answer =
  | { readonly kind: "json"; readonly value: unknown; readonly status?: number }
  | { readonly kind: "text"; readonly text: string; readonly type: string; readonly status?: number }
  | { readonly kind: "stream"; readonly stream: ReadableStream<Uint8Array>; readonly type: string };
