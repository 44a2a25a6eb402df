# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# run: a command on the login host; exec: a command inside any host. The command is in all namespaces of the
# host, so `exec login ps` shows what `run` has started, and it ends with the host. See devcluster.d/forward for
# how signals and exit status get through.

# Inside: go where the caller was if that exists here (else home), and become the command.
# shellcheck disable=SC2016
readonly BECOME='cd "$1" 2>/dev/null || cd "$HOME" 2>/dev/null || cd /; shift; exec "$@"'

# Sets AS_USER, setpriv's arguments that turn root into the user in $1 ('' stays root), and his environment.
choose_user() {
    local entry uid gid home
    AS_USER=()
    [[ $1 ]] || return 0
    entry=$(grep "^$1:" "$DIR/etc/passwd") || die "there is no user '$1' (alice and bob are made for you)"
    IFS=: read -r _ _ uid gid _ home _ <<<"$entry"
    AS_USER=(--reuid "$uid" --regid "$gid" --init-groups)
    export HOME=$home USER=$1 LOGNAME=$1
}

parse_user() {
    RUN_USER=
    case ${1-} in
        --user) RUN_USER=${2-}; [[ $RUN_USER ]] || die "--user takes a user's name"; USED=2 ;;
        --user=*) RUN_USER=${1#*=}; USED=1 ;;
        *) USED=0 ;;
    esac
}

# Becomes: a command on a host, as RUN_USER.
run_on() {
    local host=$1 pid
    shift
    choose_user "$RUN_USER"
    pid=$(live_pid "$host") || exit 1
    cgroup_enter "$host" || die "cannot enter the cgroups of $host"
    SLURM_CONF=$SLURM_CONF_IN_HOST exec nsenter --no-fork --target "$pid" "${HOST_NAMESPACES[@]}" -- \
        env --default-signal=INT,QUIT "$LIB/forward" setpriv --pdeathsig KILL "${AS_USER[@]}" -- sh -c "$BECOME" sh "$PWD" "$@"
}

command_run() {
    parse_user "$@"
    shift "$USED"
    (($#)) || die "run takes a command, for example: devcluster run srun -N2 hostname"
    run_on login "$@"
}

command_exec() {
    local host=${1-}
    [[ $host ]] || die "exec takes a host and a command, for example: devcluster exec node1 ps ax"
    require_host "$host"
    shift
    parse_user "$@"
    shift "$USED"
    (($#)) || die "exec takes a command after the host"
    run_on "$host" "$@"
}
