#!/usr/bin/env bash
# A SLURM cluster of one node on this machine, for tests: Debian's slurm-wlm and munge, on loopback, without accounting.
# Its node has a GPU on paper (gpu:model), a feature (kind) and two partitions (main, gpus), so that site settings show.
#
#   tests/slurm/cluster.sh start [FOLDER]    install what is missing (as root), configure, start, wait until idle
#   tests/slurm/cluster.sh stop [FOLDER]     stop it and what still runs on it
#   tests/slurm/cluster.sh restart-controller [FOLDER]
#
# Everything (configuration, key, sockets, state, logs) lies in FOLDER (/tmp/deidlib-slurm), but for two links that
# stop removes, slurm.conf and gres.conf in /etc/slurm: the executor takes SLURM_CONF from its jobs' environment. Exit
# code 77: SLURM cannot be installed here, or the machine belongs to a cluster already, whose configuration is left alone.
set -euo pipefail

command=${1:?start, stop or restart-controller}
folder=${2:-/tmp/deidlib-slurm}
port=${DEIDLIB_SLURM_PORT:-16817}
link=/etc/slurm/slurm.conf
PATH=$PATH:/usr/sbin:/sbin

install() {
    command -v slurmctld >/dev/null && command -v slurmd >/dev/null && command -v munged >/dev/null && return
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        echo "no SLURM here, and it can only be installed as root with apt-get: install slurm-wlm and munge" >&2
        exit 77
    fi
    echo "installing slurm-wlm and munge" >&2
    {
        apt-get update -qq &&
            DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends slurm-wlm munge
    } </dev/null >"$folder/install.log" 2>&1 || {
        echo "slurm-wlm and munge could not be installed; $folder/install.log says why" >&2
        exit 77
    }
}

check_link() {
    if [ -e "$link" ] && [ "$(readlink "$link")" != "$folder/slurm.conf" ]; then
        echo "this machine has a SLURM of its own ($link); use that: see docs/cluster.md" >&2
        exit 77
    fi
}

# The node claims 64 GB (config_overrides), so that every job fits wherever this runs; the cores are the machine's, and
# limit what runs at a time.
configure() {
    host=$(hostname -s)
    cores=$(env --unset OMP_NUM_THREADS nproc) # which it would take for the number of cores
    mkdir -p "$folder"/{state,spool,log}
    chmod 755 "$folder"
    [ -s "$folder/munge.key" ] || (umask 077 && head -c 128 /dev/urandom >"$folder/munge.key")
    cat >"$folder/slurm.conf" <<CONF
ClusterName=deidlib
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmctldPort=$port
SlurmdPort=$((port + 1))
SlurmdParameters=config_overrides
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
CryptoType=crypto/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
GresTypes=gpu
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=1,batch_sched_delay=0,sched_min_interval=0
ReturnToService=2
MinJobAge=3600
KillWait=2
UnkillableStepTimeout=30
MailProg=/bin/true
NodeName=$host NodeAddr=127.0.0.1 CPUs=$cores Boards=1 SocketsPerBoard=1 CoresPerSocket=$cores ThreadsPerCore=1 Gres=gpu:model:1 Feature=kind RealMemory=64000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
PartitionName=gpus Nodes=ALL MaxTime=INFINITE State=UP OverSubscribe=NO
CONF
    echo "Name=gpu Type=model File=/dev/null" >"$folder/gres.conf" # one to ask for: no GPU stands behind it
    mkdir -p "$(dirname "$link")"
    ln -sfn "$folder/slurm.conf" "$link"
    ln -sfn "$folder/gres.conf" "$(dirname "$link")/gres.conf"
}

running() { [ -s "$folder/$1.pid" ] && kill -0 "$(cat "$folder/$1.pid")" 2>/dev/null; }

start_munged() {
    running munged || munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" \
        --pid-file="$folder/munged.pid" --log-file="$folder/log/munged.log" --seed-file="$folder/munged.seed" \
        2>"$folder/log/munged.err"
}

start() {
    mkdir -p "$folder"
    install
    check_link
    configure
    start_munged
    running slurmctld || slurmctld
    running slurmd || slurmd
    for _ in $(seq 100); do
        if [ "$(sinfo --noheader --partition=main --format=%T 2>/dev/null)" = idle ]; then
            echo "SLURM is up; its logs: $folder/log" >&2
            return
        fi
        sleep 0.3
    done
    echo "SLURM did not come up; its nodes and the last of its logs:" >&2
    scontrol show node >&2
    tail -n 20 "$folder"/log/*.log >&2
    stop
    exit 1
}

stop() {
    [ "$(readlink "$link")" = "$folder/slurm.conf" ] || return 0
    scancel --user="$(id -un)" 2>/dev/null || true
    for daemon in slurmd slurmctld munged; do
        if running "$daemon"; then
            kill "$(cat "$folder/$daemon.pid")"
            for _ in $(seq 100); do
                running "$daemon" || break
                sleep 0.1
            done
        fi
    done
    rm -f "$link" "$(dirname "$link")/gres.conf"
}

case $command in
start) start ;;
stop) stop ;;
restart-controller)
    running slurmctld && kill -KILL "$(cat "$folder/slurmctld.pid")"
    sleep 0.5
    slurmctld
    ;;
*)
    echo "start, stop or restart-controller, not $command" >&2
    exit 2
    ;;
esac
