/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Bug: mistakes put in on purpose, to find out whether the tests would notice (script/dev bugs).
 *
 * Idea        Built with -Dbugs=true, MR_BUG(NAME) is true when mr_bug_chosen is that one; in every other
 *             build it is the constant 0 and the compiler takes the branch out. One bug at a time.
 * Choosing    The environment's MILLRACE_BUG, in any program of such a build; or mr_bug_choose.
 * Threads     Chosen once, before anything runs.
 */
#define MR_BUGS(X)                                                                                             \
    X(ACK_BEFORE_SYNC, "acknowledges records that were written but not synced")                                \
    X(SYNC_SKIPPED, "does not sync the log at all")                                                            \
    X(SYNC_RETRIED, "tries a failed sync again and believes it")                                               \
    X(LAST_BUNDLE_LOST, "loses the last bundle in recovery")                                                   \
    X(RECORD_SKIPPED, "loses the second record of a bundle in replay")                                         \
    X(INCARNATION_IGNORED, "takes old bytes of another segment for records")                                   \
    X(MANIFEST_FIRST, "switches to a checkpoint whose parts are not synced")                                   \
    X(CHECKPOINT_NO_WATERMARK, "leaves the watermarks out of the checkpoint")                                  \
    X(CHECKPOINT_BEFORE_FLUSH, "finishes a checkpoint before the results of its bundles are stored")           \
    X(CHECKPOINT_LOSES_IDS, "leaves the ids of the last chunk out of the checkpoint")                          \
    X(CHECKPOINT_AFTER_IMAGE, "saves groups as they are, not as they were at the barrier")                     \
    X(CHECKPOINT_LOSES_LATE, "leaves closed windows that still take late data out of the checkpoint")          \
    X(LOG_TRIMMED_EARLY, "removes log that the older checkpoint still needs")                                  \
    X(OLD_CHECKPOINT_GONE, "keeps one checkpoint only")                                                        \
    X(EXPIRES_EARLY, "forgets a generation of ids one generation early")                                       \
    X(EXPIRY_BY_EVENT_TIME, "moves recorded time by the time of events")                                       \
    X(FINGERPRINT_SHORT, "compares 8 bits of a fingerprint only")                                              \
    X(PARTIAL_LOST, "loses the first partial of a parcel with several")                                        \
    X(PARTIAL_TWICE, "merges the last partial of a parcel twice")                                              \
    X(LATE_AS_DUPLICATE, "calls a late event a duplicate")                                                     \
    X(FUTURE_MOVES_WATERMARK, "lets an event far in the future move the watermark")                            \
    X(WATERMARK_BACK, "lets the watermark go back after a restart")                                            \
    X(FASTEST_STREAM, "lets the first of several streams move a rule that reads all of them")                  \
    X(SILENT_SOURCE_HOLDS, "lets a source that is silent hold its stream back")                                \
    X(ADVANCE_NOT_REPLAYED, "forgets in a replay what producers said of the watermark")                        \
    X(REDRIVES_FORGOTTEN, "leaves out of the checkpoint what was redriven")                                    \
    X(REDRIVEN_IS_ITS_COPY, "takes an event that is redriven for a duplicate of itself")                       \
    X(REVISION_NOT_STORED, "stores panes without their revision")                                              \
    X(REVISION_NOT_GUARDED, "lets an old pane overwrite a newer one")                                          \
    X(FLUSH_SKIPS_BUNDLE, "says a bundle is stored whose panes are not")                                       \
    X(FLUSH_FORGETS, "forgets the kept panes after a failed transaction")                                      \
    X(RELEASED_UNCONFIRMED, "frees a window before its rows are stored")                                       \
    X(EARLY_TIMER_LOST, "forgets after a start which groups wait for an early pane")                           \
    X(DISCARDED_TWICE, "says what a discarding pane has said in the next one again")                           \
    X(SESSION_ROW_NOT_RETRACTED, "leaves the rows of a session that another one swallowed")                    \
    X(KEPT_BACK_LOST, "does not say what late panes that were off kept back, when the settings change")        \
    X(REFUSED_BUT_WRITTEN, "refuses a batch after it was appended")                                            \
    X(CLAIM_READ_WRONG, "counts the last event of a request though another has claimed its id")                \
    X(VERDICTS_NOT_RECORDED, "lets verdicts of a shared store take effect without recording them")             \
    X(UNDECIDED_NOT_SAVED, "leaves undecided events out of the checkpoint")                                    \
    X(UNDECIDED_TRIMMED, "removes log that undecided events still need")                                       \
    X(UNDECIDED_FORGOTTEN, "does not claim what a start finds undecided")                                      \
    X(ASSERTS_NOTHING, "says that it has asserted its claims, and has not")                                    \
    X(LOCAL_NOT_CLAIMED, "never claims what it decided by itself while the store was away")                 \
    X(LOCAL_NOT_REMEMBERED, "decides by itself, and remembers nothing of it")                              \
    X(ASSERTS_EARLY, "asserts its claims before the log has all that it has decided")                          \
    X(ASSERTS_ONCE, "goes on asserting claims though those it asserted were lost again")

enum mr_bug {
    MR_BUG_NONE,
#define X(name, text) MR_BUG_##name,
    MR_BUGS(X)
#undef X
        MR_BUG_COUNT
};

#ifdef MR_BUGS_ON
extern enum mr_bug mr_bug_chosen;
#define MR_BUG(name) (mr_bug_chosen == MR_BUG_##name)
#else
#define MR_BUG(name) 0
#endif

/* The bug of that name, MR_BUG_NONE when there is none; what it does. */
enum mr_bug mr_bug_named(const char *name);
const char *mr_bug_name(enum mr_bug bug);
const char *mr_bug_text(enum mr_bug bug);
/* Does nothing in a build without bugs. */
void mr_bug_choose(enum mr_bug bug);
