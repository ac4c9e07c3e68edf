/** By the path under which each is asked for. */
export type PageFiles = Readonly<Record<string, { readonly type: string; readonly text: string }>>;
