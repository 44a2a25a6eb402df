// SPDX-License-Identifier: Apache-2.0
//
// What the parts of the collective module share: signature.c (sets of participants and what is
// known of them), fence.c (contributions up), fence_data.c (their bytes), fence_root.c (one decision),
// fence_result.c and fence_down.c (result down), modex.c (one rank's blob for one that wants it) and fetch.c (for one
// elsewhere), collective.c (life, dispatch, copy, digest).
//
// A fence is (epoch, set of participating ranks, number): the same set may fence again and again,
// and every node counts its own fences per set, so equal numbers meet. A "signature" is an epoch
// and a set; it lives until its epoch is over, because the count does. Group operations will be a
// further kind of record beside the fences of a signature; frame types 0x36 and up are free for
// them.
//
// Fence frames carry the content hash of the set; the content itself only until the peer has it on
// this link (`parent_knows`, `known_children`).
#ifndef PM_CORE_COLLECTIVE_H
#define PM_CORE_COLLECTIVE_H

#include "pmix_server/core/internal.h"

#define PM_FENCE_DATA_MAX (64u << 20)    // bytes that one node may contribute
#define PM_FENCE_RESULT_MAX (192u << 20) // bytes of a result; one FENCE_UP must hold it
#define PM_FENCE_PENDING_MAX 65536u      // undecided fences a node keeps
// Sets of one epoch at the coordinator; agents keep twice that, so that it is always the
// coordinator who refuses one.
#define PM_SIGNATURES_MAX 16384u
// Decided fences kept per set to answer late questions, and the bytes of results that the
// coordinator keeps for it in all (the newest stays, whatever its size).
#define PM_FENCE_MEMO_ROOT 16u
#define PM_FENCE_MEMO_AGENT 4u
#define PM_FENCE_MEMO_BYTES (64u << 20)
#define PM_FENCE_HOLD_MS 250u       // how long contributions wait for the rest of their subtree
#define PM_FENCE_BLAME_MS 500u      // how long a failed fence waits for the report of who died
#define PM_MODEX_PENDING_MAX 65536u // local questions a node keeps
#define PM_MODEX_RESEND_MS 1000u    // first repetition; doubles up to
#define PM_MODEX_RESEND_MAX_MS 30000u
#define PM_FENCE_SPANS_MAX (1u << 20) // of a set in a frame of fences

enum pm_collective_frame {
    // Up: key, u8 flags, u64 rest of the smallest timeout in ms (0: none), set of contributing
    // nodes; with PM_FENCE_COLLECT for each of them, in order: bytes.
    PM_FRAME_FENCE_UP = 0x30,
    // Down: key, i32 status, u32 lost rank, set of nodes that it answers (empty: every
    // participant), bytes.
    PM_FRAME_FENCE_DOWN = 0x31,
    // u32 epoch, u32 node asked, u32 node asking, u32 rank, u64 rest of the timeout in ms (0: none)
    PM_FRAME_MODEX_ASK = 0x32,
    // u32 epoch, u32 node asking, u32 rank, i32 status, bytes
    PM_FRAME_MODEX_ANSWER = 0x33,
    // Down, a success of more than one piece: as FENCE_DOWN, with the first bytes; then u32 bytes in
    // all. What is missing follows on the same link, in order, as FENCE_PIECE.
    PM_FRAME_FENCE_BEGIN = 0x34,
    // Down: key, u32 bytes before it, bytes.
    PM_FRAME_FENCE_PIECE = 0x35,
};
// key: u32 epoch, u64 hash of the set, u64 number, u8 1: the set follows.

enum pm_fence_flag {
    PM_FENCE_COLLECT = 1,
    PM_FENCE_FAILED = 2,  // a contributor says that a local participant was lost
    PM_FENCE_TOO_BIG = 4, // data over a limit was dropped: ends with an error
};

struct pm_chunk {
    uint32_t node;
    uint32_t len;
    uint8_t *data; // owned
};

struct pm_fence {
    struct pm_fence *next; // of its signature, by number
    uint64_t seq;
    uint64_t decided_order; // of c->decisions: which memo is oldest
    bool has_local;         // a FENCE event of this node waits for its FENCE_DONE
    bool decided;
    bool urgent; // known to be late: nobody else is coming, do not hold it back
    uint8_t flags;
    uint8_t flags_sent;
    int32_t status;
    uint32_t lost_rank;
    uint64_t local_id;
    uint64_t deadline_ns; // smallest timeout; UINT64_MAX: none
    uint64_t hold_ns;     // agents: when a part goes up without the rest; coordinator: when it fails
                          // though nobody has reported a dead rank yet; UINT64_MAX: never
    struct pm_set have; // contributors known here
    struct pm_set sent; // of them, those the present parent was told
    struct pm_set from; // children that contributed or asked, and are owed the result
    struct pm_set late; // decided, but these nodes asked again: the answer must come from above
    struct pm_chunk *chunks;
    uint32_t n_chunks;
    uint32_t cap_chunks;
    size_t bytes;
    uint32_t n_chunks_sent; // the present parent was told of these first ones ...
    size_t bytes_sent;      // ... and so many bytes
    uint8_t *data; // coordinator: the result, kept for late questions; owned
    size_t len;
    bool dropped; // the memo's data was given up for space
};

struct pm_signature {
    uint32_t epoch;
    uint64_t hash;
    struct pm_set ranks;
    struct pm_set nodes; // that host a participant; agents: of the own subtree, itself included
    uint64_t nodes_tree; // value of c->tree that `nodes` belongs to; 0: none
    uint32_t nodes_map;  // and of the world's map_version
    uint64_t next_seq;   // of the next local FENCE event
    uint64_t forgotten;  // decided fences below this number may have left the memo
    bool parent_knows;
    struct pm_set known_children;
    struct pm_fence *fences;
    uint32_t n_decided;
};

struct pm_modex_ask {
    uint64_t id;
    uint64_t deadline_ns;
};

// What local ranks want: one per rank, however many ask.
struct pm_modex {
    uint32_t epoch;
    uint32_t rank;
    uint32_t node; // that hosts it
    struct pm_modex_ask *asks;
    uint32_t n;
    uint32_t cap;
    uint64_t resend_ns;
    uint64_t resend_step_ms;
};

// What others want of a local rank: one per rank.
struct pm_fetch {
    uint32_t epoch;
    uint32_t rank;
    uint64_t id;
    bool issued;
    uint64_t deadline_ns; // of the most patient
    struct pm_set nodes;  // that ask, maybe this one
};

// Which fence a frame is about. `ranks` belongs to a key that was read and is borrowed by one to
// write.
struct pm_fence_key {
    uint32_t epoch;
    uint64_t hash;
    uint64_t seq;
    bool has_ranks;
    struct pm_set ranks;
};

// A result that comes in pieces and goes on in pieces (fence_down.c). There is one: the coordinator
// sends all pieces of a result in one go, so on a link no other such result comes in between.
struct pm_flow {
    struct pm_fence_key key; // of the fence; without its ranks
    size_t total;           // bytes of the result; 0: nothing is under way
    size_t at;              // of them, those that have come
    struct pm_set children; // that were sent the first piece and get every other
    struct pm_set nodes;    // of `late`, those that this answers
    struct pm_writer bytes; // what has come, if this node waits for the result
};

struct pm_collective {
    uint32_t first_epoch; // older ones are over
    uint32_t ready_epoch; // highest epoch whose local server is known to answer
    bool any_ready;
    uint64_t deadline_ns; // not later than the earliest of all below
    uint64_t tree;        // grows whenever the tree around this node may have changed; from 1
    struct pm_signature **signatures; // sorted by (epoch, hash)
    uint32_t n_signatures;
    uint32_t cap_signatures;
    uint32_t n_pending;
    uint64_t decisions;
    size_t memo_bytes;
    struct pm_flow flow;
    uint32_t lost_epoch;
    struct pm_set lost; // ranks of lost_epoch: no fence with one of them succeeds, no get of one is asked
    struct pm_modex **modexes; // sorted by (epoch, rank)
    uint32_t n_modexes;
    uint32_t cap_modexes;
    uint32_t n_asks;
    struct pm_fetch *fetches;
    uint32_t n_fetches;
    uint32_t cap_fetches;
    uint64_t next_fetch_id;
};

struct pm_answer {
    int32_t status; // enum pm_server_status
    uint32_t lost_rank;
    const uint8_t *data; // borrowed
    size_t len;
    size_t total; // fences: of the whole result, of which `data` may be the first piece
};

// --- signature.c
// NULL: unknown.
struct pm_signature *pm_signature_find(struct pm_collective *c, uint32_t epoch, uint64_t hash);
// Finds or makes it. NULL: too many of this epoch, no memory (then out->error is set), another set
// with the same hash, or a set outside the world.
struct pm_signature *pm_signature_get(struct pm_core *core, uint32_t epoch,
                                      const struct pm_set *ranks);
struct pm_signature *pm_signature_free(struct pm_signature *s);
struct pm_signature *pm_signature_clone(const struct pm_signature *s);
// Ends every signature up to `epoch`.
void pm_signatures_drop(struct pm_collective *c, uint32_t epoch);
// Nodes that host a participant: all (coordinator), or those of the own subtree (agents).
// Recomputed after a change of the tree. Before the world is known it is empty.
const struct pm_set *pm_signature_nodes(struct pm_core *core, struct pm_signature *s);
// Does any participant live on `child` or below it? True as long as the world is unknown.
bool pm_signature_is_below(struct pm_core *core, struct pm_signature *s, uint32_t child);
// The fence with this number; NULL: none.
struct pm_fence *pm_signature_fence(const struct pm_signature *s, uint64_t seq);
// A new pending one in its place; NULL: too many pending, or no memory.
struct pm_fence *pm_signature_add_fence(struct pm_core *core, struct pm_signature *s, uint64_t seq);
// Forgets one that is not decided.
void pm_signature_remove_fence(struct pm_core *core, struct pm_signature *s, struct pm_fence *f);
// Calls `visit` for every fence that is not decided. It may decide or remove it.
void pm_fence_for_pending(struct pm_core *core,
                          void (*visit)(struct pm_core *, struct pm_signature *,
                                        struct pm_fence *));
void pm_write_fence_key(struct pm_writer *w, const struct pm_fence_key *key);
void pm_read_fence_key(struct pm_reader *r, struct pm_fence_key *key);

// --- fence.c
void pm_fence_event(struct pm_core *core, const struct pm_event *event);
void pm_fence_frame_up(struct pm_core *core, uint32_t from, struct pm_reader *r);
void pm_fence_timer(struct pm_core *core);
void pm_fence_on_parent(struct pm_core *core);
void pm_fence_on_tree(struct pm_core *core);
// It is gone or new: what it knew and what it was owed begins anew.
void pm_fence_forget_child(struct pm_core *core, uint32_t child);
void pm_fence_epoch_over(struct pm_core *core, uint32_t epoch);

// --- fence_root.c (coordinator)
void pm_fence_decide(struct pm_core *core, struct pm_signature *s, struct pm_fence *f,
                     int32_t status, uint32_t lost_rank);
// Decides if there is something to decide.
void pm_fence_consider(struct pm_core *core, struct pm_signature *s, struct pm_fence *f);
// One more of `lost`: ends the fences that wait for it.
void pm_fence_rank_lost(struct pm_core *core);

// --- fence_down.c (agents): the result as it comes from above
// `type`: FENCE_DOWN or FENCE_BEGIN.
void pm_fence_frame_down(struct pm_core *core, uint8_t type, struct pm_reader *r);
void pm_fence_frame_piece(struct pm_core *core, struct pm_reader *r);
// The rest of the result that is under way will not come; whoever waits for it is owed it again.
void pm_flow_abandon(struct pm_core *core);
// The same, because there is another parent now. Who was getting a result of which there is no record
// gets an error.
void pm_flow_lose_parent(struct pm_core *core);
bool pm_flow_is_of(const struct pm_collective *c, const struct pm_signature *s,
                   const struct pm_fence *f);
void pm_flow_done(struct pm_flow *flow); // and zeroes it
// Into a zeroed one. False: no memory.
bool pm_flow_clone(struct pm_flow *copy, const struct pm_flow *flow);
void pm_flow_digest(const struct pm_flow *flow, struct pm_digest *d);

// --- fence_result.c
// `has_ranks`: the peer may not know the set. Borrows the signature's.
struct pm_fence_key pm_fence_key_of(const struct pm_signature *s, uint64_t seq, bool has_ranks);
void pm_fence_emit_done(struct pm_core *core, uint32_t epoch, uint64_t id,
                        const struct pm_answer *a);
// Sends the answer to the children that have targets below (no targets: every participant), as far
// as this node knows, and to those that are owed it. What is large goes in pieces; if only the first
// is here, the flow's children are those that were sent it.
void pm_fence_spread(struct pm_core *core, struct pm_signature *s, const struct pm_fence *f,
                     const struct pm_answer *a, const struct pm_set *targets);
// Answers `nodes` below the child that asked for them.
void pm_fence_reply(struct pm_core *core, uint32_t child, const struct pm_fence_key *asked,
                    const struct pm_answer *a, const struct pm_set *nodes);
// Bytes that go in one frame: of a result, and about so many of contributions.
size_t pm_fence_piece_max(const struct pm_core *core);
// A further piece, to the flow's children.
void pm_fence_send_piece(struct pm_core *core, const struct pm_fence_key *key, size_t at,
                         const uint8_t *data, size_t len);
struct pm_answer pm_fence_memo_answer(const struct pm_fence *f);
// The result is here: the local server gets it, contributions are no longer needed.
void pm_fence_complete(struct pm_core *core, struct pm_signature *s, struct pm_fence *f,
                       const struct pm_answer *a);

// --- fence_data.c: contributions and results as bytes
struct pm_fence *pm_fence_free(struct pm_fence *f);
struct pm_fence *pm_fence_clone(const struct pm_fence *f);
// Takes note of `node` with a copy of its data; a node counts once.
void pm_fence_contribute(struct pm_core *core, struct pm_fence *f, uint32_t node, const void *data,
                         size_t len);
// Frees contributions, keeps who made them.
void pm_fence_drop_data(struct pm_fence *f);
// All that is here has been told the parent; or what was may be needed once more.
void pm_fence_data_sent(struct pm_fence *f);
void pm_fence_data_unsent(struct pm_fence *f);
// For each node of `nodes`, none of which the parent was told of, in order: bytes.
void pm_fence_write_chunks(struct pm_writer *w, struct pm_fence *f, const struct pm_set *nodes);
// Skips what pm_fence_write_chunks wrote, checking every length.
void pm_fence_skip_chunks(struct pm_reader *r, const struct pm_set *nodes);
// All contributions in node order, into f->data. False: no memory.
bool pm_fence_join(struct pm_fence *f);

// --- modex.c: what local ranks want
// Who wants what; PM_FRAME_MODEX_ASK.
struct pm_ask {
    uint32_t epoch;
    uint32_t node; // that hosts the rank
    uint32_t from; // that asks
    uint32_t rank;
    uint64_t timeout_ms;
};
void pm_modex_event(struct pm_core *core, const struct pm_event *event);
void pm_modex_frame_ask(struct pm_core *core, uint32_t from, struct pm_reader *r);
void pm_modex_frame_answer(struct pm_core *core, uint32_t from, struct pm_reader *r);
void pm_modex_timer(struct pm_core *core);
// Something of the way may have changed: asks again, ends what asks a dead node.
void pm_modex_on_tree(struct pm_core *core);
void pm_modex_rank_lost(struct pm_core *core, uint32_t epoch, uint32_t rank);
void pm_modex_epoch_over(struct pm_core *core, uint32_t epoch);
// Answers the local ranks that want `rank`, if any still do.
void pm_modex_finish(struct pm_core *core, uint32_t epoch, uint32_t rank,
                     const struct pm_answer *a);
// Answers ask->from, be it this node or another.
void pm_modex_answer(struct pm_core *core, const struct pm_ask *ask, const struct pm_answer *a);
struct pm_modex *pm_modex_free(struct pm_modex *m);
struct pm_modex *pm_modex_clone(const struct pm_modex *m);
void pm_modex_digest(const struct pm_collective *c, uint64_t now_ns, struct pm_digest *d);

// --- fetch.c: what others want of local ranks
// ask->from wants it. There is at most one fetch per local rank, so this is bounded.
void pm_fetch_want(struct pm_core *core, const struct pm_ask *ask);
void pm_fetch_fetched(struct pm_core *core, const struct pm_event *event);
// Asks a server that is new, or that has forgotten what the one before was asked.
void pm_fetch_server_ready(struct pm_core *core, uint32_t epoch);
void pm_fetch_timer(struct pm_core *core);
void pm_fetch_rank_lost(struct pm_core *core, uint32_t epoch, uint32_t rank);
void pm_fetch_epoch_over(struct pm_core *core, uint32_t epoch);
void pm_fetch_digest(const struct pm_collective *c, uint64_t now_ns, struct pm_digest *d);

// --- collective.c
// The next timer is not later than `t_ns`.
void pm_collective_arm(struct pm_collective *c, uint64_t t_ns);
// now + timeout, UINT64_MAX for timeout 0; never wraps.
uint64_t pm_collective_until(const struct pm_core *core, uint64_t timeout_ms);
// What is left of it in ms, at least 1; 0: no limit.
uint64_t pm_collective_rest_ms(const struct pm_core *core, uint64_t deadline_ns);
// Notes a failed allocation of this step.
void pm_collective_nomem(struct pm_core *core);

#endif
