// SPDX-License-Identifier: Apache-2.0
//
// The plugin in srun (plugin/srun.c, srun_conf.c), with each of its calls failing in turn, in a child each: srun becomes
// the coordinator with the words and the options that it has, or ends with 125 and says why; and the srun below
// the coordinator reports its step, or the coordinator finds its end of the socket closed.
//
// A slurm.conf that cannot be read counts as one without SrunPortRange: not every site has the file.
//
//   kth_srun -n 2 true    the words of the srun that is tried
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pm_config.h"
#include "plugin/plugin.h"
#include "tests/kth/kth.h"
#include "tests/kth/kth_calls.h"

enum { OUT_CAP = 65536, PROGRAM = 3, CANNOT_START = 125 };

static char folder[] = "/tmp/kth_srun.XXXXXX";
static char conf[64];
static int reached_fd; // where a child that is still itself says that the k-th call was made

// --- the plugin's other files, and Slurm -----------------------------------------------------------

int pm_plugin_options_resolve(struct pm_options *ret, int ac, char **av, char *error)
{
    pm_options_default(ret);
    ret->mode = PM_MODE_WORLD;
    return 0;
}

const char *pm_plugin_libexec(int ac, char **av)
{
    return folder;
}

void pm_no_kill_at_start(const struct pm_options *o) {}
void slurm_spank_log(const char *format, ...) {}

spank_err_t spank_get_item(spank_t spank, spank_item_t item, ...)
{
    va_list args;
    va_start(args, item);
    *va_arg(args, uint32_t *) = 7;
    va_end(args);
    return ESPANK_SUCCESS;
}

// --- a child ---------------------------------------------------------------------------------------

struct outcome {
    int status; // of waitpid
    bool reached;
    size_t len;
    char out[OUT_CAP]; // stdout and stderr
    size_t n_reported;
};

static void on_failure(void)
{
    if (write(reached_fd, "", 1) < 0)
        abort();
}

static void become_srun(uint64_t k, int out, bool below)
{
    dup2(out, 1);
    dup2(out, 2);
    optind = PROGRAM;
    kth_on_failure(on_failure);
    kth_arm(k, KTH_ONCE);
    pm_srun_init();
    if (!below)
        _exit(pm_srun_post_opt(0, NULL)); // does not come back
    _exit(pm_srun_post_opt(0, NULL) || pm_srun_user_init(NULL));
}

static size_t read_to_end(int fd, char *buf, size_t cap)
{
    size_t len = 0;
    for (ssize_t n = 1; n > 0 && len < cap - 1; len += n > 0 ? (size_t)n : 0)
        n = read(fd, buf + len, cap - 1 - len);
    buf[len] = '\0';
    return len;
}

// Pipes to the child are closed on its exec, but for its output.
static void run(uint64_t k, bool below, struct outcome *ret)
{
    int out[2], reached[2], report[2] = {-1, -1};
    char text[16], parent[16], byte[2], packet[256];
    KTH_CHECK(pipe2(out, O_CLOEXEC) == 0 && pipe2(reached, O_CLOEXEC) == 0, "no pipe");
    KTH_CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, report) == 0, "no socket");
    reached_fd = reached[1];
    snprintf(text, sizeof(text), "%d", report[1]);
    // Of another process: srun in a script that the child srun runs.
    snprintf(parent, sizeof(parent), "%d", below ? getpid() : 1);
    setenv("SLURM_PM_STEP_CHILD", parent, 1);
    setenv("SLURM_PM_STEP_KEY", "0123", 1);
    setenv("SLURM_PM_STEP_REPORT_FD", text, 1);
    pid_t pid = fork();
    KTH_CHECK(pid >= 0, "no child");
    if (pid == 0)
        become_srun(k, out[1], below);
    close(out[1]);
    close(reached[1]);
    close(report[1]);
    ret->len = read_to_end(out[0], ret->out, sizeof(ret->out));
    ret->reached = read_to_end(reached[0], byte, sizeof(byte)) > 0;
    ret->n_reported = read_to_end(report[0], packet, sizeof(packet));
    KTH_CHECK(waitpid(pid, &ret->status, 0) == pid, "no end");
    close(out[0]);
    close(reached[0]);
    close(report[0]);
}

// One sentence and 125.
static bool gives_up(const struct outcome *o)
{
    const char *head = "pm-supervise: ";
    return WIFEXITED(o->status) && WEXITSTATUS(o->status) == CANNOT_START && !strncmp(o->out, head, strlen(head)) &&
           o->len > strlen(head) + 8 && o->out[o->len - 1] == '\n';
}

static bool same(const struct outcome *a, const struct outcome *b)
{
    return a->status == 0 && b->status == 0 && !strcmp(a->out, b->out) && a->n_reported == b->n_reported;
}

static uint64_t sweep(bool below)
{
    static struct outcome whole, without_conf, now;
    run(UINT64_MAX, below, &whole);
    setenv("SLURM_CONF", "/none", 1);
    run(UINT64_MAX, below, &without_conf);
    setenv("SLURM_CONF", conf, 1);
    KTH_CHECK(whole.status == 0 && (below || (strstr(whole.out, "port-range=4000-4100") && strstr(whole.out, "key: \n"))), "%s", whole.out);
    for (uint64_t k = 1;; k++) {
        run(k, below, &now);
        bool closed = below && now.status == 0 && now.n_reported == 0;
        KTH_CHECK(gives_up(&now) || same(&now, &whole) || same(&now, &without_conf) || (closed && now.reached),
                  "status %#x, k %llu: %s", (unsigned)now.status, (unsigned long long)k, now.out);
        if (!now.reached)
            return k - 1;
    }
}

// --- its surroundings --------------------------------------------------------------------------------

static void write_file(const char *name, const char *text, mode_t mode)
{
    char path[64];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *f = fopen(path, "we");
    KTH_CHECK(f && fputs(text, f) >= 0 && fclose(f) == 0 && chmod(path, mode) == 0, "no file");
}

static void remove_file(const char *name)
{
    char path[64];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    KTH_CHECK(unlink(path) == 0, "no file");
}

int main(int argc, char **argv)
{
    KTH_CHECK(argc == PROGRAM + 1, "usage: kth_srun -n 2 true");
    KTH_CHECK(mkdtemp(folder), "no folder");
    write_file("pm-coordinator", "#!/bin/sh\necho \"$@\"\necho \"$SLURM_PM_STEP_CONF\"\necho \"key: $SLURM_PM_STEP_KEY\"\n", 0700);
    write_file("slurm.conf", "ClusterName=c\nSrunPortRange=4000-4100\n", 0600);
    snprintf(conf, sizeof(conf), "%s/slurm.conf", folder);
    setenv("SLURM_CONF", conf, 1);
    setenv("SLURM_PM_STEP_VERSION", PM_VERSION, 1);
    kth_calls_mode(KTH_CALLS_FAIL);
    uint64_t above = sweep(false), below = sweep(true);
    remove_file("pm-coordinator");
    remove_file("slurm.conf");
    KTH_CHECK(rmdir(folder) == 0, "the folder is left");
    printf("%llu calls, %llu below the coordinator\n", (unsigned long long)above, (unsigned long long)below);
    return 0;
}
