/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Claims' script: what Redis does with the ids of one bucket, in one step that nothing comes between.
 *
 * Idea        No loop over the ids makes a call or a string: ids, and pairs of id and token, come as two texts in MessagePack
 *             that become arguments in one call; and where nobody has any of the ids, which is the rule, the
 *             answer is empty. Each call of a command costs 1 µs, each argument made by a loop 0.1 µs.
 * Keys        canary, the hash of the ids' generation, the hash of the generation beside it.
 * Arguments   epoch: what the canary must say; "": an assertion, for which it is not looked at
 *             ttl: of a new hash, ms
 *             ids: one text of 15 bytes in MessagePack for each, then MR_CLAIMS_ABOUT
 *             claims: id and token for each
 * Reply       0: the canary is missing or says something else; nothing was done.
 *             "": they were nobody's and have their tokens now.
 *             else an array in MessagePack: the owner's token, or false: it was nobody's and has its token now.
 *             An assertion gets the same reply and takes the ids, whoever had them.
 * Hash        Beside the ids it has the field MR_CLAIMS_ABOUT, whose value is a sentence of more than 64 bytes: with a value
 *             so long Redis makes a table of the hash at once, not a list in which up to 512 ids are searched one
 *             by one (20 µs an id). It also says that the hash is not new.
 */
#include "base/bytes.h"

#define MR_CLAIMS_ABOUT         "about"
#define MR_CLAIMS_SHA_LEN       40
#define MR_CLAIMS_SCRIPT_BEGINS "-- millrace: claims"

struct mr_bytes mr_claims_script_text(void);
/* By which EVALSHA knows it: SHA-1, in hexadecimal digits. */
void mr_claims_script_sha(char ret[MR_CLAIMS_SHA_LEN + 1]);
