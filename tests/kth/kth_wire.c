// SPDX-License-Identifier: Apache-2.0
//
// What wire/, the shim's START and the modex blobs allocate, with every allocation failing in turn: -ENOMEM
// (a reader: its error), nothing leaked, and what was given stays as it was.
#include <errno.h>
#include <string.h>

#include "plugin/shim/rank.h"
#include "pmix_server/pmix/modex_blob.h"
#include "pmix_server/wire/hostlist.h"
#include "pmix_server/wire/nspace.h"
#include "pmix_server/wire/secure.h"
#include "pmix_server/wire/set.h"
#include "tests/kth/kth.h"

static struct pm_writer nspace_bytes, start_bytes;
static struct pm_set big, odd;

static int expand(void)
{
    char **names;
    uint32_t n;
    int rc = pm_hostlist_expand("n[1-3],m", &names, &n);
    if (rc == 0)
        pm_hostlist_free(names, n);
    return rc;
}

static int read_nspace(void)
{
    struct pm_nspace_info info = {0};
    struct pm_reader r = pm_reader_of(nspace_bytes.data, nspace_bytes.len);
    pm_read_nspace(&r, &info);
    pm_nspace_info_done(&info);
    return r.error;
}

static int write_nspace(void)
{
    struct pm_nspace_info info = {0};
    struct pm_writer w = {0};
    struct pm_reader r = pm_reader_of(nspace_bytes.data, nspace_bytes.len);
    pm_read_nspace(&r, &info);
    int rc = r.error;
    if (rc == 0)
        pm_write_nspace(&w, &info);
    rc = rc ? rc : w.error;
    pm_writer_done(&w);
    pm_nspace_info_done(&info);
    return rc;
}

static const uint8_t key[PM_KEY_LEN];

static struct pm_secure *end(bool dialer, int *rc)
{
    const struct pm_secure_config config = {.key = key, .version = "1", .dialer = dialer};
    struct pm_secure *s = NULL;
    if (*rc == 0)
        *rc = pm_secure_new(&config, &s);
    return s;
}

// Moves what `from` holds into `to`; an answer goes to *back.
static void shake(struct pm_secure *to, struct pm_writer *from, struct pm_writer *back, int *rc)
{
    size_t used;
    if (*rc == 0)
        (void)pm_secure_handshake(to, from->data, from->len, &used, back);
    *rc = *rc ? *rc : back->error;
    pm_writer_reset(from);
}

// A handshake, a frame, and a body that travels by its ticket.
static int secure(void)
{
    static const char content[20000];
    struct pm_writer there = {0}, back = {0};
    struct pm_body *body = NULL;
    int rc = 0;
    struct pm_secure *dialer = end(true, &rc), *acceptor = end(false, &rc);
    if (rc == 0)
        pm_secure_begin(dialer, &there);
    rc = rc ? rc : there.error;
    shake(acceptor, &there, &back, &rc);
    shake(dialer, &back, &there, &rc);
    shake(acceptor, &there, &back, &rc);
    if (rc == 0) {
        KTH_CHECK(pm_secure_established(dialer) && pm_secure_established(acceptor), "no handshake");
        pm_secure_seal(dialer, content, sizeof(content), &there);
        rc = there.error ? there.error : pm_body_new(content, sizeof(content), &body);
    }
    if (rc == 0)
        pm_secure_seal_ticket(dialer, body, &there);
    rc = rc ? rc : there.error;
    pm_body_unref(body);
    pm_writer_done(&there);
    pm_writer_done(&back);
    pm_secure_free(dialer);
    pm_secure_free(acceptor);
    return rc;
}

static int start(void)
{
    struct pm_shim_start start = {0};
    struct pm_reader r = pm_reader_of(start_bytes.data, start_bytes.len);
    int rc = pm_start_read(&r, &start);
    pm_start_free(&start);
    return rc;
}

// A set that cannot grow stays what it was.
static int sets(void)
{
    struct pm_set s = {0};
    int rc = pm_set_copy(&s, &big);
    if (rc == 0)
        rc = pm_set_union(&s, &odd);
    if (rc < 0 && s.n)
        KTH_CHECK(pm_set_equal(&s, &big), "a failed union changed the set");
    if (rc == 0) {
        rc = pm_set_subtract(&s, &odd);
        KTH_CHECK(rc < 0 || !pm_set_intersects(&s, &odd), "not subtracted");
        KTH_CHECK(rc == 0 || pm_set_covers(&s, &odd), "a failed subtraction changed the set");
    }
    rc = rc ? rc : pm_set_remove(&s, big.spans[0].first);
    pm_set_done(&s);
    return rc;
}

static struct pm_modex_bytes blob_bytes;

static int modex(void)
{
    struct pm_modex_blob blob = {0};
    struct pm_writer w = {0};
    int rc = pm_modex_blob_parse(&blob, blob_bytes.data, blob_bytes.len);
    if (rc == 0) {
        pm_modex_blob_write(&blob, &w);
        rc = w.error;
    }
    // Without memory it says that the bytes are others: they then go as they are.
    if (rc == 0 && !pm_modex_blob_is(&blob, blob_bytes.data, blob_bytes.len))
        rc = -ENOMEM;
    pm_writer_done(&w);
    pm_modex_blob_done(&blob);
    return rc;
}

static const struct {
    const char *name;
    int (*flow)(void);
} flows[] = {
    {"host lists", expand}, {"namespace in", read_nspace}, {"namespace out", write_nspace},
    {"secure", secure},     {"start", start},              {"sets", sets},
    {"modex", modex},
};

static void sweep(const char *name, int (*flow)(void), enum kth_mode mode)
{
    bool reached = true;
    uint64_t k = 0;
    while (reached) {
        int64_t live = kth_live_blocks();
        kth_arm(++k, mode);
        int rc = flow();
        reached = kth_disarm();
        KTH_CHECK(rc == (reached ? -ENOMEM : 0), "%s, k %llu: %d", name, (unsigned long long)k, rc);
        KTH_CHECK(kth_live_blocks() == live, "%s, k %llu: a leak", name, (unsigned long long)k);
    }
    printf("%s: %llu allocations\n", name, (unsigned long long)k - 1);
}

static void prepare(const char *blob_path)
{
    static uint8_t bytes[4096];
    struct pm_set ranks = {0};
    for (uint32_t i = 0; i < 20; i++)
        KTH_CHECK(pm_set_add(&big, 10 * i) == 0 && pm_set_add(&odd, 10 * i + 5) == 0, "no memory");
    KTH_CHECK(pm_set_add_span(&ranks, 0, 1) == 0, "no memory");
    struct pm_nspace_info info = {.name = "pm.1.0.0",
                                  .nnodes = 1,
                                  .nranks = 2,
                                  .nodelist = (char *)(uintptr_t)"n1",
                                  .ranks_of_node = &ranks,
                                  .n_cpusets = 2,
                                  .cpusets = (char *[]){(char[]){"0-1"}, (char[]){"2-3"}}};
    pm_write_nspace(&nspace_bytes, &info);
    pm_set_done(&ranks);
    pm_write_u32(&start_bytes, 0);
    pm_write_u32(&start_bytes, 0);
    pm_write_place(&start_bytes, &(struct pm_place){0});
    pm_write_u32(&start_bytes, 1);
    pm_write_str(&start_bytes, "RANK=1");
    FILE *f = fopen(blob_path, "rb");
    KTH_CHECK(f, "no blob");
    size_t len = fread(bytes, 1, sizeof(bytes), f);
    fclose(f);
    KTH_CHECK(len > 1, "no blob");
    blob_bytes = (struct pm_modex_bytes){bytes + 1, len - 1};  // the first byte is the fuzzer's
}

// kth_wire BLOB: a seed of tests/fuzz/seeds/modex.
int main(int argc, char **argv)
{
    KTH_CHECK(argc == 2, "usage: kth_wire BLOB");
    prepare(argv[1]);
    for (size_t i = 0; i < sizeof(flows) / sizeof(flows[0]); i++) {
        sweep(flows[i].name, flows[i].flow, KTH_ONCE);
        sweep(flows[i].name, flows[i].flow, KTH_FROM_NOW);
    }
    pm_writer_done(&nspace_bytes);
    pm_writer_done(&start_bytes);
    pm_set_done(&big);
    pm_set_done(&odd);
    return 0;
}
