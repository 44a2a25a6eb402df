// SPDX-License-Identifier: Apache-2.0
//
// Membership from inside: shared by membership.c (events, frames, the clock), state.c and state_digest.c (memory, hash), links.c
// (links and children), adopt.c (who becomes a child here), edges.c (who hangs where), seek.c (an agent looks for a
// parent), relay.c (reports up, orders down), lease.c, and at the coordinator judge.c and judge_answers.c (suspicion and
// death) and doubt.c (is it we who do not hear?).
//
// Every attachment of a node is an edge {node, attach number, parent, attached}. The node counts
// its attach numbers; a higher one wins, and at the same number "lost" wins over "attached". That
// makes merging edges independent of order and repetition, so edges are sent whole on a new link
// and as changes afterwards, and a loss report that is older than an adoption has no effect.
#ifndef PM_CORE_MEMBERSHIP_H
#define PM_CORE_MEMBERSHIP_H

#include "pmix_server/core/internal.h"

#define PM_K_NS          (300 * PM_MS) // a signal has reached every process of a node
#define PM_LINKS_SPARE   64          // links of a node beyond its fan-out
#define PM_PROBES_MAX    64          // an agent's open probes
#define PM_ADDRESSES_MAX 1024        // bytes of a node's address list
#define PM_PINGS         16          // send times remembered

enum pm_membership_frame {
    PM_FRAME_ATTACH = 0x10, // child -> parent: u32 attach, u32 avoid, str addresses, edges
    PM_FRAME_ATTACHED,      // u32 attach, u64 view, set of the dead
    PM_FRAME_REDIRECT, // u32 node (PM_NODE_NONE: come again later), str addresses; then a close
    PM_FRAME_REFUSED,  // str why: declared dead; then a close
    PM_FRAME_PING,     // child -> parent: u32 seq, u32 newest grant seen
    PM_FRAME_GRANT,    // u32 seq, u64 remaining ns (0: I hear you, but have nothing to grant)
    PM_FRAME_UP,       // edges, addresses of inner nodes, reports
    PM_FRAME_DOWN,     // u64 view, set of the dead
    PM_FRAME_CONFIRM,  // routed: u32 to, u32 child, u32 attach: you may grant
    PM_FRAME_PROBE,    // routed: u32 to, u32 target, u64 id, str addresses: dial it
    PM_FRAME_PROBED,   // up: u64 id, u32 prober, u32 target, u8 end (enum pm_link_end or
                       // PM_PROBE_ANSWERED)
    PM_FRAME_CALL,     // on a link of its own: look after your parent link
};
#define PM_PROBE_ANSWERED 0xff

// What a parent says about a child.
enum pm_report_kind {
    PM_REPORT_FINE = 0, // heard again, or adopted: asks for a CONFIRM
    PM_REPORT_QUIET,    // silent for T/4
    PM_REPORT_SILENT,   // silent for T/2, or it has seen no grant for T/2
    PM_REPORT_ENDED,    // the link ended (never on the wire: the edge says it)
    PM_REPORT_MAX,
};

struct pm_child_report {
    uint32_t node;
    uint32_t attach;
    uint32_t parent; // that says so
    uint32_t via;    // its own newest attach number: under an older one it is an old word
    uint8_t kind;
    uint64_t silent_ns;  // how long nothing came
    uint64_t granted_ns; // how long ago it was last granted a lease
};

struct pm_edge {
    uint32_t node;
    uint32_t parent;
    uint32_t attach;
    bool attached;
};

// Edges below this node, or of the whole step. `plain` has the nodes that hang at their numbered
// parent; `known` has every edge that is not simply {first attach, numbered parent, attached}.
struct pm_edges {
    struct pm_set plain;
    struct pm_edge *known; // by node
    uint32_t n;
    uint32_t cap;
};

enum pm_link_role {
    PM_ROLE_STRANGER = 0, // accepted, has not said what it wants
    PM_ROLE_CANDIDATE,    // we dialed it and want it as our parent
    PM_ROLE_PARENT,
    PM_ROLE_CHILD,
    PM_ROLE_PROBE, // we dial it to see whether it answers
};

struct pm_link {
    uint32_t id;
    uint32_t node;
    uint8_t role;
    uint64_t heard_ns;
    uint64_t probe_id;
};

struct pm_child {
    uint32_t node;
    uint32_t link;
    uint32_t attach;
    uint8_t reported; // enum pm_report_kind
    bool withheld;    // no grant until the coordinator has confirmed
    bool owed;        // it was reported: FINE is repeated until the coordinator confirms
    uint64_t heard_ns;
    // lease.c
    uint32_t ping_seq;    // newest ping
    uint64_t ping_ns;     // its receipt
    uint32_t granted_seq; // newest ping that a grant was sent for
    uint32_t seen_seq;    // newest grant that the child has seen
    uint64_t granted_ns;  // when a grant was last sent, 0: never
    uint64_t unseen_ns;   // since when seen_seq stands still behind granted_seq; 0: it does not
    char *addresses;
    struct pm_set subtree;
    bool subtree_valid;
};

struct pm_address {
    uint32_t node;
    char *text;
};
struct pm_addresses {
    struct pm_address *list; // by node
    uint32_t n;
    uint32_t cap;
};

// An agent's search for a parent.
struct pm_seek {
    bool joined;       // was attached once
    bool asked;        // ATTACH is under way to the candidate
    bool named;        // the candidate was named by the coordinator, with addresses
    uint32_t link;     // candidate, 0: none
    uint32_t node;     // whom it dials
    uint32_t step;     // 0: last parent, 1: tree parent, 2: grandparent ...
    uint32_t tries;    // of this step
    uint32_t refusals; // by the coordinator's address, in a row
    uint32_t dials;    // since T/2 without a grant
    uint32_t last_parent;
    uint32_t avoid;     // ancestor that did not answer, for the coordinator to know
    uint32_t redirect;  // node named by a REDIRECT, PM_NODE_NONE: none
    uint32_t redirects; // in a row
    char *redirect_addresses;
    bool urgent; // a CALL came
    uint64_t start_ns;
    uint64_t refused_ns; // since when the coordinator's address has only refused, 0: it has not
    bool reached;        // there was a handshake with somebody of the step, whoever dialled
    uint64_t unanswered_ns; // since when the coordinator has not, although we dialled it; 0: it has
    uint64_t since_ns; // since when we need a parent, 0: we do not
    uint64_t dialed_ns;
    uint64_t next_ns;      // earliest next dial
    uint64_t until_ns;     // candidate must have answered
    char why[PM_TEXT_CAP]; // last failure
};

// Own lease (agents).
struct pm_lease {
    uint64_t end_ns; // 0: none yet
    bool held;
    uint32_t seq;               // newest ping sent
    uint32_t seen;              // newest grant seen
    uint64_t sent_ns[PM_PINGS]; // send time of ping seq at [seq % PM_PINGS]
    uint64_t progress_ns;       // since when our parent owes us a grant
    uint64_t renewed_ns;        // when end_ns last moved, before that: of the first attachment
    uint64_t orphan_end_ns;     // not renewed until then: orphaned; time that we slept is added
};

// Coordinator: a lost or silent node and what hung below it.
struct pm_suspect {
    uint32_t node;
    uint32_t attach;
    uint8_t kind;
    bool root_dead; // `node` is declared; the rest may still come back
    bool stuck;     // last probe connected without a handshake
    bool unreachable; // last probe that came back had no answer from its host
    uint8_t refused;
    struct pm_set pending;
    uint64_t first_ns;   // when it was first reported
    uint64_t since_ns;   // silent since; starts anew when it answers or we were late
    uint64_t asked_ns;   // one of them asked us for a place; who is below `node` has T/2 from then on
    uint64_t granted_ns; // not before this + T is a lease surely over
    uint64_t deadline_ns;
    uint64_t dead_ns; // refused twice: declared then; 0: not
    uint64_t probe_ns;
    uint64_t probe_id;
    uint64_t base_id; // probes up to this one are old news
};

struct pm_dead {
    uint32_t node;
    uint64_t over_ns;   // its last lease is over
    uint64_t silent_ms; // 0: it was not declared for silence
    bool unreachable;   // it was dialled, and its host did not answer: not only one below a dead node in the tree, or
                        // one whose probers died as well
    bool refused;       // its host lives: it has refused the connection, twice
    const char *proof;  // static, see pm_death_proof(); "": nobody has answered for it
};

struct pm_judge {
    struct pm_suspect *list; // by node
    uint32_t n;
    uint32_t cap;
    uint64_t next_ns;    // when judge_tick has something to do
    uint64_t anew_ns;    // the last time that every suspicion began anew
    struct pm_set nodes; // union of pending
    bool nodes_valid;
    struct pm_dead *dead; // by node
    uint32_t n_dead;
    uint32_t cap_dead;
    bool isolated;
    uint64_t isolated_ns;
    uint32_t n_dead_before; // n_dead when isolation began
    bool heard;             // a suspect, since isolation began or all suspicions did so anew
    uint8_t job_state;
    bool waiting;      // for the answer to ASK_JOB_STATE
    uint64_t asked_ns; // 0: not asked
    uint64_t last_probe_id;
};

struct pm_membership {
    uint32_t self;
    uint32_t fanout;
    uint32_t nnodes;   // 0: not known yet (coordinator before LAUNCHED)
    uint32_t first_spare; // it and those after it never become parents; UINT32_MAX: there is none
    uint64_t t_ns;     // node timeout
    uint64_t lease_ns; // L
    uint64_t orphan_ns;
    uint64_t tick_ns;     // next T/8 tick, UINT64_MAX: none
    // Statistics, which decide nothing and are no part of the digest: the longest that a child had been silent when it
    // was heard again, and that our own tick was late.
    uint64_t longest_silence_ns;
    uint64_t longest_late_ns;
    uint32_t last_dial;   // link id of the newest DIAL
    uint32_t parent_link; // 0: none
    uint32_t parent;
    uint32_t attach; // newest number used
    uint64_t view;
    uint64_t view_due_ns;  // coordinator: view to be raised then; UINT64_MAX: no
    uint64_t view_free_ns; // coordinator: earliest next raise
    bool stopped;
    bool outcast;
    struct pm_set dead;
    struct pm_link *links; // by id
    uint32_t n_links;
    uint32_t cap_links;
    uint32_t n_probes;
    struct pm_child *children; // by node
    uint32_t *child_ids;
    uint32_t n_children;
    uint32_t cap_children;
    struct pm_edges edges;
    // Not yet reported up (agents)
    struct pm_set news_plain;
    struct pm_set news_known;
    struct pm_addresses news_addresses;
    struct pm_child_report *reports;
    uint32_t n_reports;
    uint32_t cap_reports;
    uint64_t up_due_ns;            // UINT64_MAX: nothing to report
    uint64_t up_free_ns;           // earliest next UP
    struct pm_addresses addresses; // coordinator: inner nodes
    struct pm_seek seek;
    struct pm_lease lease;
    struct pm_judge judge;
};

// How long our clock did not run (it is more than T/8 late); 0: it runs.
static inline uint64_t pm_clock_slept_ns(const struct pm_membership *m, uint64_t now_ns)
{
    bool late = m->tick_ns != UINT64_MAX && now_ns > m->tick_ns + m->t_ns / 8;
    return late ? now_ns - m->tick_ns : 0;
}

// --- links.c: links and children
// ------------------------------------------------------------------
struct pm_link *pm_link_find(struct pm_membership *m, uint32_t id);
// NULL without memory.
struct pm_link *pm_link_add(struct pm_core *core, uint32_t id, uint32_t node,
                            enum pm_link_role role);
// Forgets the link; the caller has closed it or it is down.
void pm_link_drop(struct pm_membership *m, uint32_t id);
void pm_link_close(struct pm_core *core, uint32_t id); // CLOSE and drop
// Emits DIAL and adds the link; 0 without memory.
uint32_t pm_link_dial(struct pm_core *core, uint32_t node, enum pm_link_role role,
                      const char *addresses, uint64_t timeout_ns);
// Sends and frees the frame's memory; `error` of the writer makes the step fail.
void pm_link_send(struct pm_core *core, uint32_t id, struct pm_writer *frame);
// As pm_link_send, but the frame stays the caller's.
void pm_link_emit(struct pm_core *core, uint32_t id, const struct pm_writer *frame);
void pm_link_redirect(struct pm_core *core, uint32_t id, uint32_t node, const char *addresses);
void pm_link_refuse(struct pm_core *core, uint32_t id); // its node was declared dead
// There are more dead: what they may still say on links accepted before must change nothing.
void pm_links_refuse_strangers(struct pm_core *core);
struct pm_child *pm_child_find(struct pm_membership *m, uint32_t node);
uint32_t pm_child_index(const struct pm_membership *m, uint32_t node); // of the first id >= node
struct pm_child *pm_child_add(struct pm_core *core, uint32_t node);    // NULL without memory
void pm_child_remove(struct pm_membership *m, uint32_t node);
// The link is gone or is to be closed by the caller: edge lost, users told.
void pm_child_lost(struct pm_core *core, uint32_t node);
// The child was declared dead: told so, closed, forgotten. Its edge is the caller's business.
void pm_child_refuse(struct pm_core *core, uint32_t node);
// The nodes of the step are known.
void pm_node_limit_set(struct pm_core *core, uint32_t nnodes);
// The first id that no node of the step has.
uint32_t pm_node_limit(const struct pm_core *core);
void pm_out_of_memory(const struct pm_core *core); // outside of a step nobody is told
uint64_t pm_min_ns(uint64_t a, uint64_t b);
uint64_t pm_max_ns(uint64_t a, uint64_t b);

// --- adopt.c
// ----------------------------------------------------------------------------------------
void pm_adopt_on_attach(struct pm_core *core, struct pm_link *link, struct pm_reader *r);

// --- edges.c
// ---------------------------------------------------------------------------------------- The edge
// of `node`; false: never heard of.
bool pm_edges_get(const struct pm_edges *e, uint32_t node, uint32_t fanout, struct pm_edge *ret);
// Is a newer attachment of `node` known than that number? What it said under the older one may be long past.
bool pm_edges_newer(const struct pm_edges *e, uint32_t node, uint32_t fanout, uint32_t attach);
// Merges one; 1: something changed, 0: old news, or -ENOMEM.
int pm_edges_merge(struct pm_edges *e, const struct pm_edge *edge, uint32_t fanout);
// Does `node` hang (at any depth) below `top` now? Or is it `top`.
bool pm_edges_under(const struct pm_edges *e, uint32_t node, uint32_t top, uint32_t fanout);
// Everything at and below `top`, added to *into. 0 or -ENOMEM.
int pm_edges_subtree(const struct pm_edges *e, uint32_t top, uint32_t fanout, struct pm_set *into);
void pm_edges_write(const struct pm_edges *e, uint32_t fanout, struct pm_writer *w);
// The edges of `plain` and `known` only.
void pm_edges_write_some(const struct pm_edges *e, const struct pm_set *plain,
                         const struct pm_set *known, uint32_t fanout, struct pm_writer *w);
// The wire form, read into sets and a malloc'd list; 0 or -EBADMSG or -ENOMEM.
int pm_edges_read(struct pm_reader *r, struct pm_edges *ret, uint32_t limit); // of nodes below it
void pm_edges_done(struct pm_edges *e);
int pm_edges_copy(struct pm_edges *to, const struct pm_edges *from);
void pm_edges_digest(const struct pm_edges *e, struct pm_digest *d);

// --- relay.c
// ---------------------------------------------------------------------------------------- Edges of
// a child (or one of its reports) have come in: merge, pass on, tell the judge.
void pm_relay_edges(struct pm_core *core, const struct pm_edges *from);
void pm_relay_edge(struct pm_core *core, const struct pm_edge *edge);
void pm_relay_address(struct pm_core *core, uint32_t node, const char *text);
void pm_relay_report(struct pm_core *core, const struct pm_child_report *report);
void pm_relay_flush(struct pm_core *core); // sends what is due
void pm_relay_view(struct pm_core *core);  // coordinator: the tree has changed
void pm_relay_down(struct pm_core *core);  // {view, dead} to all children
// Agent: what the parent knows of view and dead; passed on if it is news.
void pm_relay_news(struct pm_core *core, uint64_t view, const struct pm_set *dead);
// Sends a routed frame to `to` (payload after u32 to); true if it is on its way.
bool pm_relay_route(struct pm_core *core, uint32_t to, struct pm_writer *frame);
void pm_relay_frame(struct pm_core *core, struct pm_link *link, uint8_t type, struct pm_reader *r);
// This process dials `target` to see whether it answers.
void pm_relay_probe(struct pm_core *core, uint32_t target, uint64_t id, const char *addresses);
void pm_relay_probe_ended(struct pm_core *core, uint64_t id, uint32_t target, uint8_t end);
const char *pm_addresses_get(const struct pm_addresses *a, uint32_t node); // "" if unknown
int pm_addresses_set(struct pm_addresses *a, uint32_t node, const char *text);
void pm_addresses_clear(struct pm_addresses *a);
void pm_addresses_done(struct pm_addresses *a);
int pm_addresses_copy(struct pm_addresses *to, const struct pm_addresses *from);

// --- seek.c (agents)
// ----------------------------------------------------------------------------------
void pm_seek_tick(struct pm_core *core);
void pm_seek_now(struct pm_core *core); // parent lost, or somebody called
void pm_seek_news(struct pm_core *core); // there are more dead: the candidate may be one
void pm_seek_link_up(struct pm_core *core, struct pm_link *link);
void pm_seek_link_down(struct pm_core *core, uint32_t node, uint8_t end, const char *text);
void pm_seek_frame(struct pm_core *core, struct pm_link *link, uint8_t type, struct pm_reader *r);
void pm_seek_outcast(struct pm_core *core, const char *why);
uint64_t pm_seek_deadline_ns(struct pm_membership *m);

// --- lease.c
// --------------------------------------------------------------------------------------------
uint64_t pm_lease_length_ns(uint64_t t_ns);
void pm_lease_tick(struct pm_core *core);  // agents: ping
void pm_lease_clock(struct pm_core *core); // agents: has it ended?
void pm_lease_on_ping(struct pm_core *core, struct pm_child *child, struct pm_reader *r);
void pm_lease_on_grant(struct pm_core *core, struct pm_reader *r);
// Grants `child` what there is to grant, as an answer to its newest ping.
void pm_lease_grant(struct pm_core *core, struct pm_child *child);
// Is the child silent, and does the coordinator know?
void pm_lease_check_child(struct pm_core *core, struct pm_child *child, bool repeat);
uint64_t pm_lease_deadline_ns(const struct pm_membership *m);

// --- judge.c (coordinator)
// ----------------------------------------------------------------------------
void pm_judge_report(struct pm_core *core, const struct pm_child_report *report);
void pm_judge_edge(struct pm_core *core, const struct pm_edge *edge); // changed
void pm_judge_probed(struct pm_core *core, uint64_t id, uint32_t prober, uint32_t target,
                     uint8_t end);
void pm_judge_asked(struct pm_core *core, uint32_t node); // for a place, and was sent elsewhere
// doubt.c: may nodes be declared lost for silence now?
bool pm_judge_trust(struct pm_core *core);
void pm_judge_job_state(struct pm_core *core, enum pm_job_state state);
void pm_judge_tick(struct pm_core *core);
void pm_judge_restart(struct pm_core *core); // our own clock was late
uint32_t pm_dead_index(const struct pm_judge *j, uint32_t node); // of the first dead node >= node
void pm_remember_dead(struct pm_core *core, const struct pm_dead *dead); // the first word of a node counts
bool pm_judge_is_suspect(const struct pm_core *core, uint32_t node);

#endif
