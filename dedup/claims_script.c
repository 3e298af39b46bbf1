/* SPDX-License-Identifier: Apache-2.0 */
#include "dedup/claims_script.h"

#include <stdio.h>

/* unpack is bound by Lua's stack (8,000): MR_CLAIMS_COMMAND_IDS is chosen for it. */
static const char script[] = MR_CLAIMS_SCRIPT_BEGINS
    ", see dedup/claims_script.h\n"
    "local epoch, ttl, ids, claims = ARGV[1], ARGV[2], ARGV[3], ARGV[4]\n"
    "if epoch ~= '' and redis.call('GET', KEYS[1]) ~= epoch then return 0 end\n"
    "local owners = redis.call('HMGET', KEYS[2], cmsgpack.unpack(ids))\n"
    "local count = #owners - 1\n"
    "local is_new = not owners[count + 1]\n"
    "owners[count + 1] = nil\n"
    "if redis.call('EXISTS', KEYS[3]) == 1 then\n"
    "    local beside = redis.call('HMGET', KEYS[3], cmsgpack.unpack(ids))\n"
    "    for i = 1, count do owners[i] = owners[i] or beside[i] end\n"
    "    if epoch == '' then redis.call('HDEL', KEYS[3], cmsgpack.unpack(string.sub(ids, 1, 16 * "
    "count))) end\n"
    "end\n"
    "local taken = 0\n"
    "for i = 1, count do if owners[i] then taken = taken + 1 end end\n"
    "if is_new and (taken < count or epoch == '') then\n"
    "    redis.call('HSET', KEYS[2], '" MR_CLAIMS_ABOUT "',\n"
    "        'millrace: of each event id the fingerprint, and the token of the record that has "
    "it')\n"
    "    redis.call('PEXPIRE', KEYS[2], ttl)\n"
    "end\n"
    "if taken == 0 or epoch == '' then\n"
    "    redis.call('HSET', KEYS[2], cmsgpack.unpack(claims))\n"
    "elseif taken < count then\n"
    "    local all, new, n = {cmsgpack.unpack(claims)}, {}, 0\n"
    "    for i = 1, count do\n"
    "        if not owners[i] then\n"
    "            new[n + 1], new[n + 2], n = all[2 * i - 1], all[2 * i], n + 2\n"
    "        end\n"
    "    end\n"
    "    redis.call('HSET', KEYS[2], unpack(new))\n"
    "end\n"
    "return taken == 0 and '' or cmsgpack.pack(owners)\n";

struct mr_bytes mr_claims_script_text(void) {
    return mr_bytes_of(script, sizeof script - 1);
}

/* ---- SHA-1 (FIPS 180-4): Redis names scripts by it, nothing is safe because of it ---- */

enum { BLOCK = 64 };

static uint32_t roll(uint32_t x, unsigned bits) {
    return x << bits | x >> (32 - bits);
}

static void mix_block(uint32_t state[5], const uint8_t *block) {
    uint32_t w[80];
    for (unsigned i = 0; i < 16; i++, block += 4) {
        w[i] = (uint32_t)block[0] << 24 | (uint32_t)block[1] << 16 | (uint32_t)block[2] << 8 |
               block[3];
    }
    for (unsigned i = 16; i < 80; i++) {
        w[i] = roll(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    }
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
    for (unsigned i = 0; i < 80; i++) {
        uint32_t f;
        if (i < 20) {
            f = (d ^ (b & (c ^ d))) + 0x5a827999;
        } else if (i < 40) {
            f = (b ^ c ^ d) + 0x6ed9eba1;
        } else if (i < 60) {
            f = ((b & c) | (d & (b | c))) + 0x8f1bbcdc;
        } else {
            f = (b ^ c ^ d) + 0xca62c1d6;
        }
        uint32_t next = roll(a, 5) + f + e + w[i];
        e = d;
        d = c;
        c = roll(b, 30);
        b = a;
        a = next;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
}

void mr_claims_script_sha(char ret[MR_CLAIMS_SHA_LEN + 1]) {
    uint32_t state[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    struct mr_bytes left = mr_claims_script_text();
    uint64_t bits = left.len * 8;
    for (; left.len >= BLOCK; left.ptr += BLOCK, left.len -= BLOCK) {
        mix_block(state, left.ptr);
    }
    uint8_t tail[2 * BLOCK] = {0};
    memcpy(tail, left.ptr, left.len);
    tail[left.len] = 0x80;
    size_t tail_len = left.len + 1 + sizeof bits <= BLOCK ? BLOCK : 2 * BLOCK;
    for (size_t i = 0; i < sizeof bits; i++) {
        tail[tail_len - 1 - i] = (uint8_t)(bits >> (8 * i));
    }
    for (size_t at = 0; at < tail_len; at += BLOCK) {
        mix_block(state, tail + at);
    }
    for (unsigned i = 0; i < 5; i++) {
        (void)snprintf(ret + 8 * i, 9, "%08x", state[i]);
    }
}
