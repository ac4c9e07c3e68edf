/** A plain value says what is unknown or not given by the absence of its key, never by `undefined`. */

/** T without the keys that may be undefined, and those as optional ones. */
export type Present<T> = {
  [K in keyof T as undefined extends T[K] ? never : K]: T[K];
} & {
  [K in keyof T as undefined extends T[K] ? K : never]?: Exclude<T[K], undefined>;
};

/** The same without its undefined values. A copy: deleting them would take longer, and leave an object that does. */
export function present<const T extends object>(value: T): Present<T> {
  const there: Partial<T> = {};
  for (const key in value) if (value[key] !== undefined) there[key] = value[key];
  return there as unknown as Present<T>;
}

/** `map` of the value, if there is one. */
export function mapped<T, R>(value: T | undefined, map: (value: T) => R): R | undefined {
  return value === undefined ? undefined : map(value);
}
