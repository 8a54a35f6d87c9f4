#!/bin/sh
# wnodes-lrms: runs a job's script in its machine, and waits for it. Before it payload.py writes:
#   guest    the owner's folder in the machine
#   node     which kernel the node's is (its boot_id)
#   outputs  those of 4 and 5, the session's output and its errors, that the script writes to
# Programs: those of POSIX, and setsid; busybox has them.
#
# What becomes the script is $guest/start, the leader of a process group of its own. A signal that
# the script sends to all of its user's processes (`kill -1`) does not end this shell: it traps it,
# and the script doesn't inherit a trap, as it would if it were ignored. Then it writes down how the
# script ended, because an exit code alone can't tell `exit 137` from a death by signal 9. All
# shells (dash, bash, busybox) name the signal on standard error when a command dies of one, and say
# nothing of an exit; INT and PIPE alone pass for exits 130 and 141.
#
# Then it kills what the script has left, as a batch system does on its node: all that is the
# owner's, whatever its group or session, but this shell itself and what that comes from, the SSH
# server. That one would keep the session, and so the job, until nobody has its streams open. What a
# pass kills may just have started another, so passes follow until one finds nothing new. It is done
# in another machine than the node alone, whatever SSH may have reached.
#
# The script can open its output by name, /dev/stdout, as it could a file of its own. What an SSH
# server gives may be pipes of root's, or sockets: then a pipe of the owner's stands before each.
# shellcheck disable=SC2154 # those three
exec 4>&1 5>&2 2>"$guest/said"
trap : HUP INT QUIT TERM USR1 USR2 ALRM
relays=
for stream in $outputs; do
    (: >>/proc/self/fd/"$stream") && continue
    pipe=$guest/stream$stream
    mkfifo -m 600 "$pipe"
    cat <"$pipe" >&"$stream" 4>&- 5>&- &
    relays="$relays $! "
    eval "exec $stream>$pipe"
done 2>/dev/null
setsid sh "$guest/start"
status=$?
if [ $status -gt 128 ] && [ -s "$guest/said" ]
then echo signal $((status - 128))
else echo exit $status
fi >"$guest/end"
kill -KILL -"$(cat "$guest/pid")"

spared=$relays pid=$$
while [ "$pid" -gt 0 ]; do
    spared="$spared $pid " parent=0
    while read -r key value; do
        [ "$key" != PPid: ] || { parent=$value; break; }
    done <"/proc/$pid/status"
    pid=$parent
done
read -r kernel </proc/sys/kernel/random/boot_id
[ "$kernel" != "$node" ] || exit $status
left=yes tries=0
while [ "$left" ] && [ $tries -lt 100 ]; do
    left="" tries=$((tries + 1))
    for folder in /proc/[0-9]*; do
        pid=${folder#/proc/}
        case $spared in *" $pid "*) continue ;; esac
        if [ -O "$folder" ] && kill -KILL "$pid"; then left=yes spared="$spared $pid "; fi
    done
done
exec 4>&- 5>&-
# shellcheck disable=SC2086 # several
wait $relays # all that has been written is on its way
exit $status
