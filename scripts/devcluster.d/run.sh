# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# run: a command on the login host; exec: a command inside any host.
#
# `run` replaces itself by the command without a fork and stays in the machine's PID namespace (with a /proc to
# match): its pid, its exit status, its terminal and the signals sent to it are the command's own. `down` and
# `kill-node login` find it by its network namespace.

# Inside: become the user, go where the caller was if that exists here (else home), and become the command.
readonly BECOME='cd "$1" 2>/dev/null || cd "$HOME" 2>/dev/null || cd /; shift; exec "$@"'

# Sets AS_USER, the prefix that turns root into the user in $1 ('' stays root).
choose_user() {
    local entry
    AS_USER=()
    [[ $1 ]] || return 0
    entry=$(grep "^$1:" "$DIR/etc/passwd") || die "there is no user '$1' (alice and bob are made for you)"
    IFS=: read -r _ _ uid gid _ home _ <<<"$entry"
    AS_USER=(env HOME="$home" USER="$1" LOGNAME="$1" setpriv --reuid "$uid" --regid "$gid" --init-groups --)
}

parse_user() {
    RUN_USER=
    case ${1-} in
        --user) RUN_USER=${2-}; [[ $RUN_USER ]] || die "--user takes a user's name"; USED=2 ;;
        --user=*) RUN_USER=${1#*=}; USED=1 ;;
        *) USED=0 ;;
    esac
}

command_run() {
    local pid
    parse_user "$@"
    shift "$USED"
    [[ $# -gt 0 ]] || die "run takes a command, for example: devcluster run srun -N2 hostname"
    choose_user "$RUN_USER"
    pid=$(live_pid login) || exit 1
    # shellcheck disable=SC2016
    SLURM_CONF=$SLURM_CONF_IN_HOST exec nsenter --target "$pid" --net --uts --ipc --mount -- \
        unshare --mount --propagation private sh -c 'mount -t proc proc /proc && exec "$@"' sh \
        "${AS_USER[@]}" sh -c "$BECOME" sh "$PWD" "$@"
}

command_exec() {
    local host=${1-} pid
    [[ $host ]] || die "exec takes a host and a command, for example: devcluster exec node1 ps ax"
    require_host "$host"
    shift
    parse_user "$@"
    shift "$USED"
    [[ $# -gt 0 ]] || die "exec takes a command after the host"
    choose_user "$RUN_USER"
    pid=$(live_pid "$host") || exit 1
    cgroup_enter "$host" || die "cannot enter the cgroups of $host"
    SLURM_CONF=$SLURM_CONF_IN_HOST exec setpriv --pdeathsig KILL nsenter --target "$pid" "${HOST_NAMESPACES[@]}" -- \
        "${AS_USER[@]}" sh -c "$BECOME" sh "$PWD" "$@"
}
