/*
 * SHA-256 and SHA-512 (FIPS 180-4). Names and notes that outlive a process are made of them, so both runtimes must have
 * the same; test/plugin-engine/ compares them.
 */
#include "shim.h"
#include <string.h>

static uint64_t big64(const uint8_t *p) {
  uint64_t value = 0;
  for (int at = 0; at < 8; at++) value = value << 8 | p[at];
  return value;
}

/* The first 64 bits of the fractional parts of the cube roots of the first 80 primes; SHA-256 takes the upper halves. */
static const uint64_t ROUNDS[80] = {
  0x428a2f98d728ae22, 0x7137449123ef65cd, 0xb5c0fbcfec4d3b2f, 0xe9b5dba58189dbbc,
  0x3956c25bf348b538, 0x59f111f1b605d019, 0x923f82a4af194f9b, 0xab1c5ed5da6d8118,
  0xd807aa98a3030242, 0x12835b0145706fbe, 0x243185be4ee4b28c, 0x550c7dc3d5ffb4e2,
  0x72be5d74f27b896f, 0x80deb1fe3b1696b1, 0x9bdc06a725c71235, 0xc19bf174cf692694,
  0xe49b69c19ef14ad2, 0xefbe4786384f25e3, 0x0fc19dc68b8cd5b5, 0x240ca1cc77ac9c65,
  0x2de92c6f592b0275, 0x4a7484aa6ea6e483, 0x5cb0a9dcbd41fbd4, 0x76f988da831153b5,
  0x983e5152ee66dfab, 0xa831c66d2db43210, 0xb00327c898fb213f, 0xbf597fc7beef0ee4,
  0xc6e00bf33da88fc2, 0xd5a79147930aa725, 0x06ca6351e003826f, 0x142929670a0e6e70,
  0x27b70a8546d22ffc, 0x2e1b21385c26c926, 0x4d2c6dfc5ac42aed, 0x53380d139d95b3df,
  0x650a73548baf63de, 0x766a0abb3c77b2a8, 0x81c2c92e47edaee6, 0x92722c851482353b,
  0xa2bfe8a14cf10364, 0xa81a664bbc423001, 0xc24b8b70d0f89791, 0xc76c51a30654be30,
  0xd192e819d6ef5218, 0xd69906245565a910, 0xf40e35855771202a, 0x106aa07032bbd1b8,
  0x19a4c116b8d2d0c8, 0x1e376c085141ab53, 0x2748774cdf8eeb99, 0x34b0bcb5e19b48a8,
  0x391c0cb3c5c95a63, 0x4ed8aa4ae3418acb, 0x5b9cca4f7763e373, 0x682e6ff3d6b2b8a3,
  0x748f82ee5defb2fc, 0x78a5636f43172f60, 0x84c87814a1f0ab72, 0x8cc702081a6439ec,
  0x90befffa23631e28, 0xa4506cebde82bde9, 0xbef9a3f7b2c67915, 0xc67178f2e372532b,
  0xca273eceea26619c, 0xd186b8c721c0c207, 0xeada7dd6cde0eb1e, 0xf57d4f7fee6ed178,
  0x06f067aa72176fba, 0x0a637dc5a2c898a6, 0x113f9804bef90dae, 0x1b710b35131c471b,
  0x28db77f523047d84, 0x32caab7b40c72493, 0x3c9ebe0a15c9bebc, 0x431d67c49c100d4c,
  0x4cc5d4becb3e42b6, 0x597f299cfc657e2a, 0x5fcb6fab3ad6faec, 0x6c44198c4a475817,
};

/* The same of the square roots of the first eight. */
static const uint64_t START[8] = {
  0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
  0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179,
};

static uint32_t right32(uint32_t v, int n) { return v >> n | v << (32 - n); }
static uint64_t right64(uint64_t v, int n) { return v >> n | v << (64 - n); }

static void sha256_block(uint32_t *h, const uint8_t *p) {
  uint32_t w[64], s[8];
  for (int i = 0; i < 16; i++, p += 4) w[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
  for (int i = 16; i < 64; i++) {
    uint32_t a = w[i - 15], b = w[i - 2];
    w[i] = w[i - 16] + w[i - 7] + (right32(a, 7) ^ right32(a, 18) ^ a >> 3) + (right32(b, 17) ^ right32(b, 19) ^ b >> 10);
  }
  memcpy(s, h, sizeof s);
  for (int i = 0; i < 64; i++) {
    uint32_t one = s[7] + (right32(s[4], 6) ^ right32(s[4], 11) ^ right32(s[4], 25)) + ((s[4] & s[5]) ^ (~s[4] & s[6])) +
                   (uint32_t)(ROUNDS[i] >> 32) + w[i];
    uint32_t two = (right32(s[0], 2) ^ right32(s[0], 13) ^ right32(s[0], 22)) + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
    memmove(s + 1, s, 7 * sizeof *s);
    s[4] += one;
    s[0] = one + two;
  }
  for (int i = 0; i < 8; i++) h[i] += s[i];
}

static void sha512_block(uint64_t *h, const uint8_t *p) {
  uint64_t w[80], s[8];
  for (int i = 0; i < 16; i++, p += 8) w[i] = big64(p);
  for (int i = 16; i < 80; i++) {
    uint64_t a = w[i - 15], b = w[i - 2];
    w[i] = w[i - 16] + w[i - 7] + (right64(a, 1) ^ right64(a, 8) ^ a >> 7) + (right64(b, 19) ^ right64(b, 61) ^ b >> 6);
  }
  memcpy(s, h, sizeof s);
  for (int i = 0; i < 80; i++) {
    uint64_t one = s[7] + (right64(s[4], 14) ^ right64(s[4], 18) ^ right64(s[4], 41)) + ((s[4] & s[5]) ^ (~s[4] & s[6])) +
                   ROUNDS[i] + w[i];
    uint64_t two = (right64(s[0], 28) ^ right64(s[0], 34) ^ right64(s[0], 39)) + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
    memmove(s + 1, s, 7 * sizeof *s);
    s[4] += one;
    s[0] = one + two;
  }
  for (int i = 0; i < 8; i++) h[i] += s[i];
}

/* What is known of a text so far. It lies in a Uint8Array, so that it goes when that goes. */
typedef struct {
  union {
    uint32_t narrow[8];
    uint64_t wide[8];
  } h;
  uint64_t length;
  bool is_wide, is_done;
  uint8_t rest[128];
} Sha;

static void sha_begin(Sha *sha, bool is_wide) {
  memset(sha, 0, sizeof *sha);
  sha->is_wide = is_wide;
  for (int i = 0; i < 8; i++) {
    if (is_wide) sha->h.wide[i] = START[i];
    else sha->h.narrow[i] = (uint32_t)(START[i] >> 32);
  }
}

static void sha_block(Sha *sha, const uint8_t *block) {
  if (sha->is_wide) sha512_block(sha->h.wide, block);
  else sha256_block(sha->h.narrow, block);
}

static void sha_add(Sha *sha, const uint8_t *bytes, size_t length) {
  size_t size = sha->is_wide ? 128 : 64, held = sha->length % size;
  sha->length += length;
  if (held > 0) {
    size_t part = size - held < length ? size - held : length;
    memcpy(sha->rest + held, bytes, part);
    bytes += part;
    length -= part;
    if (held + part < size) return;
    sha_block(sha, sha->rest);
  }
  for (; length >= size; bytes += size, length -= size) sha_block(sha, bytes);
  if (length > 0) memcpy(sha->rest, bytes, length);
}

/* Returns how many bytes of the digest there are. */
static size_t sha_end(Sha *sha, uint8_t digest[64]) {
  static const uint8_t ONE[1] = { 0x80 }, ZERO[1] = { 0 };
  size_t size = sha->is_wide ? 128 : 64, counted = size / 8, unit = sha->is_wide ? 8 : 4;
  uint64_t bits = sha->length * 8;
  uint8_t ending[16] = { 0 };
  for (size_t i = 0; i < 8; i++) ending[counted - 1 - i] = (uint8_t)(bits >> (8 * i));
  sha_add(sha, ONE, 1);
  while (sha->length % size != size - counted) sha_add(sha, ZERO, 1);
  sha_add(sha, ending, counted);
  for (size_t i = 0; i < 8 * unit; i++) {
    uint64_t word = sha->is_wide ? sha->h.wide[i / unit] : sha->h.narrow[i / unit];
    digest[i] = (uint8_t)(word >> (8 * (unit - 1 - i % unit)));
  }
  return 8 * unit;
}

void sha256(const uint8_t *bytes, size_t length, uint8_t digest[32]) {
  Sha sha;
  uint8_t whole[64];
  sha_begin(&sha, false);
  sha_add(&sha, bytes, length);
  sha_end(&sha, whole);
  memcpy(digest, whole, 32);
}

static Sha *sha_of(JSContext *ctx, JSValueConst *data) {
  size_t length;
  Sha *sha = (Sha *)bytes_of(ctx, data[0], &length);
  if (sha != NULL && !sha->is_done) return sha;
  if (sha != NULL) JS_ThrowTypeError(ctx, "this hash was asked for already");
  return NULL;
}

/* update(bytes | text) */
static JSValue update(JSContext *ctx, JSValueConst self, int count, JSValueConst *arguments, int magic, JSValueConst *data) {
  (void)self, (void)count, (void)magic;
  Sha *sha = sha_of(ctx, data);
  if (sha == NULL) return JS_EXCEPTION;
  size_t length;
  if (JS_IsString(arguments[0])) {
    const char *text = text_to_utf8(ctx, arguments[0], &length);
    if (text == NULL) return JS_EXCEPTION;
    sha_add(sha, (const uint8_t *)text, length);
    JS_FreeCString(ctx, text);
    return JS_UNDEFINED;
  }
  const uint8_t *bytes = bytes_of(ctx, arguments[0], &length);
  if (bytes == NULL) return JS_EXCEPTION;
  sha_add(sha, bytes, length);
  return JS_UNDEFINED;
}

/* digestHex(): string */
static JSValue digest_hex(JSContext *ctx, JSValueConst self, int count, JSValueConst *arguments, int magic, JSValueConst *data) {
  (void)self, (void)count, (void)arguments, (void)magic;
  Sha *sha = sha_of(ctx, data);
  if (sha == NULL) return JS_EXCEPTION;
  uint8_t digest[64];
  char hex[128];
  size_t length = sha_end(sha, digest);
  sha->is_done = true;
  for (size_t i = 0; i < length; i++) {
    hex[2 * i] = "0123456789abcdef"[digest[i] >> 4];
    hex[2 * i + 1] = "0123456789abcdef"[digest[i] & 15];
  }
  return JS_NewStringLen(ctx, hex, 2 * length);
}

/* hasher("sha256" | "sha512"): { update, digestHex } */
static JSValue hasher(JSContext *ctx, JSValueConst self, int count, JSValueConst *arguments) {
  (void)self, (void)count;
  const char *algorithm = JS_ToCString(ctx, arguments[0]);
  if (algorithm == NULL) return JS_EXCEPTION;
  bool is_wide = strcmp(algorithm, "sha512") == 0, is_known = is_wide || strcmp(algorithm, "sha256") == 0;
  JS_FreeCString(ctx, algorithm);
  if (!is_known) return JS_ThrowTypeError(ctx, "hasher: only sha256 and sha512");
  Sha begun;
  sha_begin(&begun, is_wide);
  JSValue state = JS_NewUint8ArrayCopy(ctx, (const uint8_t *)&begun, sizeof begun);
  JSValue object = JS_NewObject(ctx);
  if (!JS_IsException(state) && !JS_IsException(object)) {
    JS_SetPropertyStr(ctx, object, "update", JS_NewCFunctionData(ctx, update, 1, 0, 1, &state));
    JS_SetPropertyStr(ctx, object, "digestHex", JS_NewCFunctionData(ctx, digest_hex, 0, 0, 1, &state));
  }
  JS_FreeValue(ctx, state);
  return object;
}

void digest_define(JSContext *ctx, JSValueConst object) {
  static const Native natives[] = { { "hasher", hasher, 1 } };
  natives_define(ctx, object, natives, sizeof natives / sizeof *natives);
}
