// SPDX-License-Identifier: Apache-2.0
//
// pmix_probe's verb "keys": asks for every key that Open MPI 4.1 and 5, MPICH and plain clients ask
// for, and prints what came. Lines: "key rank=R of=RANK|job name=KEY rc=STATUS type=T value=TEXT";
// the value is the rest of the line. A missing key is a line with its status, not an error.

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "probe.h"

enum { GET_TIMEOUT_S = 10, TEXT_MAX = 1024 };

// Asked of the job (rank WILDCARD): session, job, application and own node.
static const char *const job_keys[] = {
    PMIX_UNIV_SIZE,    PMIX_SESSION_ID,
    PMIX_JOBID,        PMIX_NSPACE,
    PMIX_JOB_SIZE,     PMIX_MAX_PROCS,
    PMIX_JOB_NUM_APPS, PMIX_NUM_NODES,
    PMIX_NODE_MAP,     PMIX_PROC_MAP,
    PMIX_ANL_MAP,      PMIX_NODE_LIST,
    PMIX_NPROC_OFFSET, PMIX_SERVER_NSPACE,
    PMIX_SERVER_RANK,  PMIX_RM_NAME,
    PMIX_RM_VERSION,   PMIX_TDIR_RMCLEAN,
    PMIX_MAPBY,        PMIX_RANKBY,
    PMIX_BINDTO,       PMIX_APP_SIZE,
    PMIX_APPLDR,       PMIX_WDIR,
    PMIX_APP_ARGV,     PMIX_PSET_NAMES,
    PMIX_LOCAL_SIZE,   PMIX_NODE_SIZE,
    PMIX_LOCALLDR,     PMIX_LOCAL_PEERS,
    PMIX_LOCAL_PROCS,  PMIX_TMPDIR,
    PMIX_NSDIR,        PMIX_NODE_OVERSUBSCRIBED,
};

// Asked of one process.
static const char *const process_keys[] = {
    PMIX_RANK,      PMIX_APPNUM,          PMIX_APP_RANK, PMIX_GLOBAL_RANK, PMIX_LOCAL_RANK,
    PMIX_NODE_RANK, PMIX_PACKAGE_RANK,    PMIX_NODEID,   PMIX_HOSTNAME,    PMIX_REINCARNATION,
    PMIX_SPAWNED,   PMIX_LOCALITY_STRING, PMIX_CPUSET,   PMIX_PROCDIR,     PMIX_CREDENTIAL,
};

static const struct {
    pmix_data_type_t type;
    const char *name;
} type_names[] = {
    {PMIX_BOOL, "bool"},     {PMIX_STRING, "string"},
    {PMIX_SIZE, "size"},     {PMIX_INT, "int"},
    {PMIX_UINT16, "uint16"}, {PMIX_UINT32, "uint32"},
    {PMIX_UINT64, "uint64"}, {PMIX_PROC_RANK, "rank"},
    {PMIX_PROC, "proc"},     {PMIX_DATA_ARRAY, "array"},
    {PMIX_REGEX, "regex"},   {PMIX_BYTE_OBJECT, "bytes"},
    {PMIX_STATUS, "status"}, {PMIX_COMPRESSED_STRING, "compressed-string"},
};

static const char *type_name(pmix_data_type_t type)
{
    for (size_t i = 0; i < sizeof type_names / sizeof type_names[0]; i++)
        if (type_names[i].type == type)
            return type_names[i].name;
    return "other";
}

// Ranks for an array of processes, else the number of elements.
static void print_array(char text[static TEXT_MAX], const pmix_data_array_t *array)
{
    int used = snprintf(text, TEXT_MAX, "%zu elements of type %d:", array->size, array->type);
    if (array->type != PMIX_PROC)
        return;
    const pmix_proc_t *procs = array->array;
    for (size_t i = 0; i < array->size && used < TEXT_MAX - 16; i++)
        used += snprintf(text + used, TEXT_MAX - (size_t)used, " %u", procs[i].rank);
}

static void print_bytes(char text[static TEXT_MAX], const pmix_byte_object_t *bytes)
{
    size_t length = 0;
    for (; length < bytes->size && length < TEXT_MAX - 1; length++) {
        unsigned char byte = (unsigned char)bytes->bytes[length];
        text[length] = isprint(byte) ? (char)byte : '.';
    }
    text[length] = '\0';
}

static void print_value(char text[static TEXT_MAX], const pmix_value_t *value)
{
    const unsigned long long number = value->type == PMIX_BOOL     ? value->data.flag
                                      : value->type == PMIX_SIZE   ? value->data.size
                                      : value->type == PMIX_UINT16 ? value->data.uint16
                                      : value->type == PMIX_UINT32 ? value->data.uint32
                                      : value->type == PMIX_UINT64 ? value->data.uint64
                                                                   : value->data.rank;
    switch (value->type) {
    case PMIX_STRING:
        (void)snprintf(text, TEXT_MAX, "%s", value->data.string);
        break;
    case PMIX_INT:
        (void)snprintf(text, TEXT_MAX, "%d", value->data.integer);
        break;
    case PMIX_PROC:
        (void)snprintf(text, TEXT_MAX, "%u", value->data.proc->rank);
        break;
    case PMIX_DATA_ARRAY:
        print_array(text, value->data.darray);
        break;
    case PMIX_REGEX:
    case PMIX_BYTE_OBJECT:
        print_bytes(text, &value->data.bo);
        break;
    case PMIX_BOOL:
    case PMIX_SIZE:
    case PMIX_UINT16:
    case PMIX_UINT32:
    case PMIX_UINT64:
    case PMIX_PROC_RANK:
        (void)snprintf(text, TEXT_MAX, "%llu", number);
        break;
    default:
        (void)snprintf(text, TEXT_MAX, "?");
        break;
    }
}

static void ask(const struct probe *probe, pmix_rank_t of, const char *key)
{
    pmix_proc_t proc;
    PMIX_LOAD_PROCID(&proc, probe->self.nspace, of);
    pmix_info_t timeout;
    int seconds = GET_TIMEOUT_S;
    PMIX_INFO_LOAD(&timeout, PMIX_TIMEOUT, &seconds, PMIX_INT);
    pmix_value_t *value = NULL;
    pmix_status_t status = PMIx_Get(&proc, key, &timeout, 1, &value);
    char whom[16] = "job";
    if (of != PMIX_RANK_WILDCARD)
        (void)snprintf(whom, sizeof whom, "%u", of);
    char text[TEXT_MAX] = "";
    if (status == PMIX_SUCCESS)
        print_value(text, value);
    test_say("key rank=%ld of=%s name=%s rc=%d type=%s value=%s", probe->me.rank, whom, key, status,
             status == PMIX_SUCCESS ? type_name(value->type) : "none", text);
    if (value != NULL)
        PMIX_VALUE_RELEASE(value);
}

void probe_keys(struct probe *probe, const struct probe_step *step)
{
    char self[16];
    (void)snprintf(self, sizeof self, "%ld", probe->me.rank);
    const char *ranks = probe_text(step, ".", self);
    for (size_t i = 0; i < sizeof job_keys / sizeof job_keys[0]; i++)
        ask(probe, PMIX_RANK_WILDCARD, job_keys[i]);
    for (long rank = 0; rank < probe->size; rank++)
        for (size_t i = 0; i < sizeof process_keys / sizeof process_keys[0]; i++)
            if (test_list_has(ranks, rank))
                ask(probe, (pmix_rank_t)rank, process_keys[i]);
}
