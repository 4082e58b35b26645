#!/bin/sh
# A real straggler on one machine: two ranks, of which rank 1 is made slow from
# outside, first without balancing, then with it. Shows what balancing makes of
# it, and fails if the slowness did not really happen.
#
#   quota       a CPU quota of a control group (version 1 or 2; needs root)
#   stop        SIGSTOP and SIGCONT in turns, 10 ms each
#   competitor  a busy loop on the core that rank 1 is pinned to
set -eu
cd "$(dirname "$0")/.."
method=${1:-}
moerun=${2:-build/release/launch/moerun}
case $method in
quota | stop | competitor) ;;
*)
  echo "usage: benchmarks/straggler.sh quota|stop|competitor [moerun]" >&2
  exit 2
  ;;
esac
[ -x "$moerun" ] || {
  echo "straggler: $moerun: expected the program" >&2
  exit 1
}

scratch=$(mktemp -d)
group=
helper=
finish() {
  [ -z "$helper" ] || kill "$helper" 2> /dev/null || true
  if [ -s "$scratch/pid.1" ]; then
    kill -CONT "$(cat "$scratch/pid.1")" 2> /dev/null || true
  fi
  wait 2> /dev/null || true
  [ -z "$group" ] || rmdir "$group" 2> /dev/null || true
  rm -rf "$scratch"
}
trap finish EXIT
trap 'exit 1' INT TERM

# A quarter of a million rows of experts: some seconds.
"$moerun" synth --log-level warn --output "$scratch/model" --arch olmoe --layers 2 --hidden 512 \
  --heads 8 --experts 16 --experts-per-token 4 --expert-width 512 --vocab 1024 \
  > /dev/null
awk 'BEGIN { for (i = 0; i < 64; i++) {
  printf "{\"tokens\": ["
  for (t = 0; t < 256; t++) printf "%s%d", t ? "," : "", (i * 7919 + t * 104729) % 1000 + 3
  print "], \"max_new_tokens\": 1}" } }' > "$scratch/prompts.jsonl"

# Tells its process before it becomes a rank.
cat > "$scratch/rank.sh" << END
#!/bin/sh
rank=\${OMPI_COMM_WORLD_RANK:-\${PMI_RANK:-0}}
echo \$\$ > "$scratch/pid.\$rank"
exec taskset -c "\$rank" "\$@"
END
chmod +x "$scratch/rank.sh"

# slow PID: from now on; says how in $how, leaves a helper's pid in $helper.
slow() {
  case $method in
  quota)
    if [ -e /sys/fs/cgroup/cpu/cpu.cfs_quota_us ]; then
      group=/sys/fs/cgroup/cpu/straggler.$$
      mkdir "$group"
      echo 10000 > "$group/cpu.cfs_period_us"
      echo 2500 > "$group/cpu.cfs_quota_us"
    else
      group=/sys/fs/cgroup/straggler.$$
      mkdir "$group"
      echo "2500 10000" > "$group/cpu.max"
    fi
    echo "$1" > "$group/cgroup.procs"
    ;;
  stop)
    (
      while kill -STOP "$1" 2> /dev/null; do
        sleep 0.01
        kill -CONT "$1" 2> /dev/null
        echo >> "$scratch/stops"
        sleep 0.01
      done
    ) &
    helper=$!
    ;;
  competitor)
    taskset -c 1 sh -c 'while :; do :; done' &
    helper=$!
    ;;
  esac
}

# That the rank really lost time: a count that only the slowness can make.
assert_slow() {
  case $method in
  quota)
    count=$(sed -n 's/^nr_throttled //p' "$group/cpu.stat")
    what="periods in which rank 1 was throttled"
    ;;
  stop)
    count=$(wc -l < "$scratch/stops")
    what="times that rank 1 was stopped"
    ;;
  competitor)
    # User and system time of the busy loop, in ticks.
    count=$(awk '{ print $14 + $15 }' "/proc/$helper/stat")
    what="ticks that the competitor had of rank 1's core"
    ;;
  esac
  echo "  $count $what"
  [ "$count" -gt 10 ] || {
    echo "straggler: expected more than 10 $what, found $count" >&2
    exit 1
  }
}

end_slowness() {
  if [ -n "$helper" ]; then
    kill "$helper" 2> /dev/null || true
    wait "$helper" 2> /dev/null || true
    helper=
  fi
  if [ -n "$group" ]; then
    rmdir "$group" 2> /dev/null || true
    group=
  fi
}

field() {
  tr -d '\n' < "$scratch/metrics.json" | sed -n "s/.*$1.*/\\1/p"
}

echo "# $method on rank 1 of 2"
for balance in off auto; do
  rm -f "$scratch"/pid.* "$scratch/stops"
  ./launch/mpirun.sh -n 2 "$scratch/rank.sh" "$moerun" run \
    --model "$scratch/model" --prompts "$scratch/prompts.jsonl" \
    --output "$scratch/output.$balance" --overwrite --balance $balance \
    --metrics "$scratch/metrics.json" --max-tokens 1024 --progress off \
    --log-level warn > "$scratch/table" 2>&1 &
  job=$!
  while [ ! -s "$scratch/pid.1" ] && kill -0 $job 2> /dev/null; do
    sleep 0.05
  done
  slow "$(cat "$scratch/pid.1")"
  wait $job || { cat "$scratch/table" >&2; exit 1; }
  printf 'balance %-5s %8.2f s' $balance "$(field '"run": \([0-9.]*\)')"
  [ $balance = off ] ||
    printf ', speed of rank 1 at the end %s of the fastest at the start' \
      "$(field '"ranks": \[{[^}]*},[^{]*{"speed": \([0-9.]*\)')"
  echo
  assert_slow
  end_slowness
done
cmp "$scratch/output.off" "$scratch/output.auto"
echo "the same outputs"
