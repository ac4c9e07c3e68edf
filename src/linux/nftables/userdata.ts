/**
 * User data: notes that nft attaches to tables, chains, rules, sets and elements, as type-length-value triples of one
 * byte each (libnftnl's udata). The kernel keeps them and does not read them.
 */
import { EncodeError } from "../netlink/wire.ts";
import { hexBytes, hexText } from "./values.ts";
import { string, type Codec } from "../netlink/codec.ts";
import { bytesOfHex, decodeUtf8, encodeUtf8 } from "../../platform/bytes.ts";

export interface UserdataItem {
  readonly type: number;
  readonly bytes: Uint8Array;
}

/** The TLVs of hexadecimal user data; undefined when it is something else than TLVs. */
export function readUserdata(userdata: string): UserdataItem[] | undefined {
  const bytes = bytesOfHex(userdata);
  const items: UserdataItem[] = [];
  for (let at = 0; at < bytes.length;) {
    const length = bytes[at + 1];
    if (length === undefined || at + 2 + length > bytes.length) return undefined;
    items.push({ type: bytes[at]!, bytes: bytes.subarray(at + 2, at + 2 + length) });
    at += 2 + length;
  }
  return items;
}

/** @throws EncodeError over the 255 bytes that one item, or the 256 that all may have */
export function writeUserdata(items: readonly UserdataItem[]): string {
  let text = "";
  for (const item of items) {
    if (item.bytes.length > 255)
      throw new EncodeError("", `${item.bytes.length} bytes of user data (255 fit)`);
    text += hexText(Uint8Array.of(item.type, item.bytes.length)) + hexText(item.bytes);
  }
  if (text.length > 512) throw new EncodeError("", `${text.length / 2} bytes of user data (256 fit)`);
  return text;
}

/** Comments have type 0 everywhere but in sets (enum nftnl_udata_set_types). */
export const COMMENT = 0;
export const SET_COMMENT = 7;
/** Of sets: byte order of keys and data (1 host, 2 big-endian), merging, what `typeof` was written for them. */
export const SET_KEY_BYTEORDER = 0;
export const SET_DATA_BYTEORDER = 1;
export const SET_MERGE_ELEMENTS = 2;
export const SET_KEY_TYPEOF = 3;
export const SET_DATA_TYPEOF = 4;
export const SET_DATA_INTERVAL = 6;

export function commentItem(comment: string, type: number = COMMENT): UserdataItem {
  return { type, bytes: encodeUtf8(`${comment}\0`) };
}

/** Numbers in user data are in host order. */
export function numberItem(type: number, number: number): UserdataItem {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, number, true);
  return { type, bytes };
}

export function itemText(item: UserdataItem): string {
  return decodeUtf8(item.bytes).replace(/\0.*$/s, "");
}

export function itemNumber(item: UserdataItem): number {
  if (item.bytes.length < 4) return 0;
  return new DataView(item.bytes.buffer, item.bytes.byteOffset).getUint32(0, true);
}

/** What user data says: a comment, and the user data itself (hexadecimal) when it says anything else. */
export interface Notes {
  readonly comment?: string;
  readonly userdata?: string;
}

/** Codec for a *_USERDATA attribute in which `commentType` marks the comment. */
export function notes(commentType: number): Codec<Notes> {
  return {
    kind: "userdata",
    write(writer, { comment, userdata }) {
      const text =
        userdata ?? (comment === undefined ? "" : writeUserdata([commentItem(comment, commentType)]));
      writer.append(hexBytes(text));
    },
    read(wire, start, end) {
      // The common case first: nothing but a comment.
      if (
        end - start >= 2 &&
        wire.bytes[start] === commentType &&
        end === start + 2 + wire.bytes[start + 1]!
      ) {
        return { comment: string.read(wire, start + 2, end) };
      }
      if (start === end) return {};
      const userdata = hexText(wire.bytes, start, end);
      const comment = readUserdata(userdata)?.find((item) => item.type === commentType);
      return comment === undefined ? { userdata } : { comment: itemText(comment), userdata };
    },
  };
}
