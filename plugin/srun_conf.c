// SPDX-License-Identifier: Apache-2.0
//
// SrunPortRange: sites that filter traffic to login nodes set it, and our listener there must obey it
// like srun's own. SPANK has no call for it and Slurm's configuration struct has no stable layout,
// but slurm.conf is text that every user can read. Runs in srun, as the user.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "plugin/plugin.h"

#define DEFAULT_CONF "/etc/slurm/slurm.conf"
#define MAX_FILES 64  // in all: one that includes itself twice would be read without end
#define PATH_CAP 4096

struct conf {
    const char *dir;  // of slurm.conf: Include paths are relative to it
    size_t dir_len;
    uint32_t min, max;
    unsigned files;  // read so far
    bool found;
};

static void read_conf(struct conf *c, const char *path);

static void take_range(struct conf *c, const char *text)
{
    unsigned min, max;
    if (sscanf(text, "%u-%u", &min, &max) == 2 && min > 0 && min <= max && max <= 65535) {
        c->min = min;
        c->max = max;
        c->found = true;
    }
}

static void follow_include(struct conf *c, const char *name)
{
    char path[PATH_CAP];
    if (!*name)
        return;
    if (*name == '/')
        snprintf(path, sizeof path, "%s", name);
    else
        snprintf(path, sizeof path, "%.*s/%s", (int)c->dir_len, c->dir, name);
    read_conf(c, path);
}

static void take_line(struct conf *c, char *line)
{
    static const char spaces[] = " \t\r\n";
    char *rest = NULL;
    line[strcspn(line, "#")] = '\0';
    char *word = strtok_r(line, spaces, &rest);
    if (word && strcasecmp(word, "Include") == 0) {
        char *name = strtok_r(NULL, spaces, &rest);
        follow_include(c, name ? name : "");
        return;
    }
    for (; word; word = strtok_r(NULL, spaces, &rest))
        if (strncasecmp(word, "SrunPortRange=", 14) == 0)
            take_range(c, word + 14);
}

static void read_conf(struct conf *c, const char *path)
{
    char *line = NULL;
    size_t cap = 0;
    FILE *file = c->files < MAX_FILES ? fopen(path, "re") : NULL;
    if (!file)
        return;
    c->files++;
    while (getline(&line, &cap, file) >= 0)
        take_line(c, line);
    free(line);
    fclose(file);
}

bool pm_srun_port_range(uint32_t *ret_min, uint32_t *ret_max)
{
    const char *path = getenv("SLURM_CONF");
    if (!path || !*path)
        path = DEFAULT_CONF;
    const char *slash = strrchr(path, '/');
    struct conf c = {.dir = path, .dir_len = slash ? (size_t)(slash - path) : 0};
    read_conf(&c, path);
    if (c.found) {
        *ret_min = c.min;
        *ret_max = c.max;
    }
    return c.found;
}
