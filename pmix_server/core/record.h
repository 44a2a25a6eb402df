// SPDX-License-Identifier: Apache-2.0
//
// The two records that the tree is made of. Both are level-triggered: sent whole on every change
// and on every new link, so that a lost, late or repeated frame needs no rule of its own.
//
// Down: struct pm_wanted, what the coordinator wants; the highest version wins. Up: struct
// pm_report, one cumulative record per subtree: sets of nodes that reached each mark of an epoch,
// never counts, and the first failures that the wanted state does not yet show as handled. The
// union of reports is idempotent. The world's map travels once, in a frame of its own.
#ifndef PM_CORE_RECORD_H
#define PM_CORE_RECORD_H

#include "pmix_server/core/placement.h"
#include "pmix_server/core/places.h"

enum pm_record_frame {
    PM_FRAME_WANTED = 0x20, // down
    PM_FRAME_REPORT = 0x21, // up
    PM_FRAME_SAY = 0x22,    // up: u32 node, u8 verbose, str line
    PM_FRAME_MAP =
        0x23, // down: u32 map version, u32 nodes, u32 ranks, map; before the wanted state
    PM_FRAME_BOUND = 0x24, // up: set of nodes, str text (bound.h)
};

#define PM_FAILURES_MAX     16u // with details, per report
#define PM_NOTICES_MAX      64u // with details, per wanted state; what is older is told without
#define PM_FAILURE_TEXT_CAP 128u
#define PM_NODELIST_MAX     1048576u
#define PM_SAY_CAP          1024u
#define PM_SPANS_MAX        16777216u

// What the coordinator wants of every node.
enum pm_phase {
    PM_PHASE_FORM = 0, // join; nothing runs
    PM_PHASE_START,    // epoch e runs
    PM_PHASE_HALT,     // end e (event, signal, grace, kill), get ready for e+1
    PM_PHASE_DRAIN,    // the user's stop: start nothing; ranks end by the signal they got
    PM_PHASE_STOP,     // end e; nothing follows
    PM_PHASE_KILL,     // end e now, without grace
    PM_PHASE_END,      // shims and agents end
    PM_PHASE_MAX,
};
const char *pm_phase_name(enum pm_phase phase);

// A rank, server, shim or node failed. Without texts it is 40 bytes.
struct pm_failure {
    uint32_t node;
    uint32_t rank; // PM_RANK_NONE: the node's
    uint32_t epoch;
    uint32_t incarnation;
    uint32_t pid;
    enum pm_cause cause;
    int32_t wait_status;
    uint64_t uptime_ms;
    bool connected; // to PMIx
    char text[PM_FAILURE_TEXT_CAP];
};

struct pm_failures {
    struct pm_failure *list; // PM_FAILURES_MAX at most
    uint32_t n;
    uint32_t more; // that there was no room for
};

// A dead rank, for the event that survivors get.
struct pm_notice {
    uint64_t serial; // grows within the launch
    uint32_t rank;
    uint32_t incarnation;
    enum pm_cause cause;
    int32_t wait_status;
    char text[PM_FAILURE_TEXT_CAP];
};

// Rank mode: a rank that was started again alone, and how often in this launch. The serial is that of
// the last time; every restart of a single rank has one of its own, from 1.
struct pm_again {
    uint32_t rank;
    uint32_t times;
    uint32_t serial;
};

struct pm_wanted {
    uint64_t version;
    uint32_t launch;
    uint32_t epoch;
    enum pm_phase phase;
    uint64_t view;
    uint32_t map_version; // 0: not known yet
    uint64_t grace_ms;
    uint16_t port; // MASTER_PORT of the epoch, 0: none
    uint32_t host; // node of rank 0
    enum pm_cause restart_cause;
    uint32_t restart_rank;
    bool have_nodelist;
    bool has_end_status; // end shims with this instead of the rank's own
    int32_t end_status;
    struct pm_set dead;     // ranks of the epoch that stay dead
    struct pm_set left;     // ended with 0 without PMIx_Finalize
    struct pm_set lost;     // nodes whose loss (shim, agent, node, health) is handled
    uint32_t check;         // number of the newest check of nodes' health, from 1; 0: none since they joined
    struct pm_set probe;    // nodes that shall make it
    struct pm_again *again; // sorted by rank
    uint32_t n_again;
    uint32_t again_serial; // the newest one; only the coordinator's copy has it
    uint32_t again_known;  // restarts with a serial up to this one are over: nobody waits for news of them
    struct pm_notice *notices; // the newest PM_NOTICES_MAX
    uint32_t n_notices;
};

// Marks that a node reaches once per epoch.
enum pm_mark {
    PM_MARK_STARTED = 0, // every local rank
    PM_MARK_CONNECTED,   // every local rank, to PMIx
    PM_MARK_ENDED,       // every local rank, in a way that needs no decision
    PM_MARK_HALTED,      // no process of any local rank is left
    PM_MARK_MAX,
};

struct pm_report {
    struct pm_set joined; // all shims are there; of no epoch
    uint32_t epoch;
    struct pm_set marks[PM_MARK_MAX];
    struct pm_set left;   // ranks, see pm_wanted
    struct pm_set again;  // serials of pm_again whose rank runs again
    bool any_ended;       // some rank of the epoch ended well
    int32_t user_signal;  // 0, or the signal by which Slurm stops the step
    uint64_t port_serial; // 0: none; map version << 32 | count; the highest wins
    uint16_t port;        // free on rank 0's node
    uint32_t cannot_node; // UINT32_MAX: none
    char cannot_text[PM_TEXT_CAP];
    uint32_t check;       // number of the health check that `fit` is about; the highest wins
    struct pm_set fit;    // nodes that passed it
    struct pm_map map;       // of Slurm's tasks; until the wanted state has a map version
    struct pm_places places; // likewise
    struct pm_places sizes;  // likewise, with spares (sizes.h)
    char *nodelist;    // until the wanted state has it; owned
    struct pm_failures failures;
};

// --- report.c ----------------------------------------------------------------------------------
void pm_report_init(struct pm_report *report);
void pm_report_done(struct pm_report *report);
// Deep copy into a zeroed *into; 0 or -ENOMEM (then *into is empty).
int pm_report_copy(struct pm_report *into, const struct pm_report *from);
// Everything but the failures: facts only grow. *ret_changed says whether `from` had news. 0 or
// -ENOMEM.
int pm_report_union(struct pm_report *into, const struct pm_report *from, bool *ret_changed);
// Forgets what belongs to an epoch and goes on to `epoch`.
void pm_report_next_epoch(struct pm_report *report, uint32_t epoch);
// 0 or -ENOMEM. Kept sorted by arrival; one that is there already is dropped; beyond the limit only
// counted.
int pm_failures_add(struct pm_failures *list, const struct pm_failure *failure);
void pm_failures_clear(struct pm_failures *list);
bool pm_failures_equal(const struct pm_failures *a, const struct pm_failures *b);
bool pm_failure_same(const struct pm_failure *a, const struct pm_failure *b);
void pm_write_report(struct pm_writer *w, const struct pm_report *report);
// *ret is initialised here; pm_report_done() it in every case. Nodes >= nnodes or ranks >= nranks
// are an error.
void pm_read_report(struct pm_reader *r, struct pm_report *ret, uint32_t nnodes, uint32_t nranks);
void pm_report_digest(const struct pm_report *report, struct pm_digest *d);
void pm_failures_digest(const struct pm_failures *list, struct pm_digest *d);

// --- wanted.c ----------------------------------------------------------------------------------
void pm_wanted_done(struct pm_wanted *wanted);
int pm_wanted_copy(struct pm_wanted *into, const struct pm_wanted *from);
// How many times the rank was started before: with each epoch, and alone.
uint32_t pm_wanted_incarnation(const struct pm_wanted *wanted, uint32_t rank);
// How often the rank was started again alone, and the last serial; NULL: never.
const struct pm_again *pm_wanted_again_of(const struct pm_wanted *wanted, uint32_t rank);
// The rank is to start once more alone, with a new serial. 0 or -ENOMEM.
int pm_wanted_again(struct pm_wanted *wanted, uint32_t rank);
// Adds a notice with the next serial; the oldest goes when there is no room. 0 or -ENOMEM.
int pm_wanted_notice(struct pm_wanted *wanted, const struct pm_failure *failure);
// Does this wanted state show that the failure was decided on? Then it leaves the reports.
bool pm_wanted_handles(const struct pm_wanted *wanted, const struct pm_failure *failure);
void pm_write_wanted(struct pm_writer *w, const struct pm_wanted *wanted);
void pm_read_wanted(struct pm_reader *r, struct pm_wanted *ret, uint32_t nnodes, uint32_t nranks);
void pm_wanted_digest(const struct pm_wanted *wanted, struct pm_digest *d);

// --- record.c ----------------------------------------------------------------------------------
// Set union that says whether anything was new. 0 or -ENOMEM.
int pm_set_merge(struct pm_set *into, const struct pm_set *from, bool *changed);
// A set of members below `limit`, else the reader's error is set.
void pm_read_set_below(struct pm_reader *r, struct pm_set *set, uint32_t limit);
void pm_write_failure(struct pm_writer *w, const struct pm_failure *failure);
void pm_read_failure(struct pm_reader *r, struct pm_failure *ret, uint32_t nnodes, uint32_t nranks);
void pm_digest_failure(struct pm_digest *d, const struct pm_failure *failure);
// A cause from the wire; beyond the enum is an error.
enum pm_cause pm_read_cause(struct pm_reader *r);
// Is the place lost for good (shim, agent, node), not only what ran on it?
bool pm_cause_is_loss(enum pm_cause cause);
// Copies text, cut to what fits.
void pm_text_copy(char *into, size_t cap, const char *text);

#endif
