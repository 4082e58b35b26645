#!/bin/sh
# Shows layering.sh one violation of each rule, in a tree of its own, and trees
# without any.
here=$(cd "$(dirname "$0")" && pwd) || exit 2
tree=$(mktemp -d) || exit 2
trap 'rm -rf "$tree"' EXIT
failures=0

headers='runtime/base/status.h runtime/base/timer.h runtime/model/model.h
  runtime/text/tokenizer.h runtime/plan/plan.h runtime/moe/moe.h
  runtime/decoder/session.h runtime/serve/engine.h runtime/report/counters.h
  runtime/report/report.h placement/trace/trace.h placement/map/placement.h
  placement/judge/problem.h placement/search/chain.h placement/bound/bound.h
  placement/methods/method.h comm/comm.h kernels/kernels.h kernels/device.h kernels/parts.h
  launch/command.h launch/requests/prompts.h launch/results/results.h
  launch/lines.h tests/support/cmocka.h'

reset() {
  rm -rf "${tree:?}"/*
  for header in $headers; do
    mkdir -p "$tree/${header%/*}"
    echo '/* empty */' > "$tree/$header"
  done
  mkdir -p "$tree/kernels/cuda" "$tree/launch/run" "$tree/placement/solve"
}

# refused FILE LINE: layering.sh must name FILE:1.
refused() {
  reset
  printf '%s\n' "$2" > "$tree/$1"
  if "$here/layering.sh" "$tree" | grep -q "^$1:1: "; then return; fi
  echo "not caught in $1: $2"
  failures=1
}

accepted() {
  reset
  printf '%s\n' "$2" > "$tree/$1"
  if "$here/layering.sh" "$tree"; then return; fi
  echo "wrongly refused in $1: $2"
  failures=1
}

# Arrows between folders, and between the rooms of runtime and of placement.
refused comm/a.c '#include "kernels/kernels.h"'
refused comm/a.c '#include <kernels/kernels.h>'
refused comm/a.c '	#include	"kernels/kernels.h"'
refused comm/a.c '/* so */ # include "kernels/kernels.h"'
refused runtime/plan/a.c 'void *f(void *p) { return reallocarray(p, 2, 2); }'
refused comm/a.c '#include "kernels/parts.h"'
refused kernels/device.h '#include "kernels/kernels.h"'
refused kernels/a.c '#include "placement/map/placement.h"'
refused kernels/a.c '#include "runtime/model/model.h"'
refused kernels/cuda/a.cu '#include "runtime/model/model.h"'
refused runtime/base/a.c '#include "comm/comm.h"'
refused launch/a.c '#include "tests/support/cmocka.h"'
refused runtime/moe/a.c '#include "launch/command.h"'
refused launch/requests/a.c '#include "launch/results/results.h"'
refused launch/requests/a.c '#include "runtime/model/model.h"'
refused launch/results/a.c '#include "launch/command.h"'
refused launch/lines.c '#include "launch/requests/prompts.h"'
refused launch/results/a.c '  x = getenv("HOME");'
refused placement/map/a.c '#include "comm/comm.h"'
refused runtime/plan/a.c '#include "runtime/moe/moe.h"'
refused runtime/plan/a.c '#include "comm/comm.h"'
refused runtime/plan/a.c '#include "kernels/kernels.h"'
refused runtime/model/a.c '#include "runtime/plan/plan.h"'
refused runtime/text/a.c '#include "runtime/model/model.h"'
refused runtime/moe/a.c '#include "runtime/decoder/session.h"'
refused runtime/moe/a.c '#include "runtime/report/report.h"'
refused runtime/decoder/a.c '#include "runtime/serve/engine.h"'
refused runtime/decoder/a.c '#include "runtime/report/report.h"'
refused runtime/report/counters.c '#include "runtime/plan/plan.h"'
refused runtime/report/a.c '#include "runtime/serve/engine.h"'
refused placement/trace/a.c '#include "placement/map/placement.h"'
refused placement/map/a.c '#include "placement/judge/problem.h"'
refused placement/judge/a.c '#include "placement/search/chain.h"'
refused placement/search/a.c '#include "placement/bound/bound.h"'
refused placement/search/a.c '#include "placement/methods/method.h"'
refused placement/bound/a.c '#include "placement/methods/method.h"'
refused placement/solve/a.c '#include "placement/search/chain.h"'
refused runtime/serve/a.c '#include "placement/judge/problem.h"'
refused runtime/a.c 'int a;'
refused placement/a.c 'int a;'
refused comm/a.c '#include "comm.h"'
refused comm/a.c '#include "comm/none.h"'

# What one place alone may do.
refused placement/map/a.c '#include <mpi.h>'
refused runtime/moe/a.c '#include <mpi.h>'
refused runtime/moe/a.c '#include <moerun/moerun_mpi.h>'
refused runtime/moe/a.c '#include <glpk.h>'
refused placement/methods/a.c '#include <glpk.h>'
refused runtime/moe/a.c '#include <cuda_runtime.h>'
refused kernels/a.c '#include <cuda.h>'
refused kernels/a.c '#include <cub/cub.cuh>'
refused runtime/moe/a.c '#include <thrust/sort.h>'
refused runtime/moe/a.c '#include <nccl.h>'
refused kernels/cuda/a.cu '#include <nccl.h>'
refused placement/search/a.c '#include <threads.h>'
refused runtime/moe/a.c '#include <pthread.h>'
refused runtime/plan/a.c '#pragma omp parallel for'
refused placement/search/a.c '#pragma omp parallel for'
refused placement/solve/a.c '#  pragma omp simd'
refused placement/map/a.c '_Pragma("omp parallel")'
refused runtime/plan/a.c '#include "runtime/base/timer.h"'
refused runtime/plan/a.c '  x = moerun__now();'
refused placement/search/a.c '#include <time.h>'
refused placement/search/a.c '  clock_gettime(CLOCK_MONOTONIC, &x);'
refused comm/a.c '  x = getenv("HOME");'
refused launch/run/a.c 'extern char **environ;'
refused kernels/a.c '  x = malloc(4);'
refused kernels/a.c '  free(x);'
refused kernels/cuda/a.cu '  free(x);'
refused runtime/moe/a.c '  posix_memalign(&x, 64, 4);'
refused runtime/text/a.c '  x = strdup(text);'
refused runtime/model/a.c '  x = realpath(path, NULL);'
refused runtime/model/a.c '  x = realpath(path_of(folder),
               NULL);'
refused runtime/moe/a.c '  printf("%d", x);'
refused runtime/moe/a.c '  fprintf(stderr, "%d", x);'
refused runtime/moe/a.c '  fprintf(
      stderr, "%d", x);'
refused runtime/moe/a.c '  fwrite(x, sizeof *x, count(n),
         stdout);'
refused runtime/moe/a.c '  dprintf(2, "%d", x);'
refused comm/a.c '  vdprintf(STDERR_FILENO, "%d", list);'
refused comm/a.c '  write(1, x, 4);'
refused kernels/cuda/a.cu '  printf("%d", x);'
refused runtime/moe/a.c '  assert(x++ < 4);'
refused runtime/moe/a.c '  assert(x = 4);'
refused tests/a.c '  assert(x += 4);'
refused tests/a.c '  assert(x <<= 4);'
refused tests/a.c '  assert(a[i++] == b);'
refused tests/a.c '  assert(first(a) == 4 &&
         i++ < 4);'
refused tests/a.c '  assert(fill(&x) == 0);'
refused tests/a.c '  assert(fill(a, b, &x) == 0);'
refused tests/a.c '  assert(first(a) == 4 &&
         fill(b,
              &x) == 0);'
refused runtime/moe/a.c '  exit(1);'
refused runtime/moe/a.c '  raise(SIGTERM);'
refused comm/a.c '  MPI_Abort(comm, 1);'
refused comm/a.c '  MPI_Send(x, MPI_COMM_WORLD);'

# Of nine headers the last is too many.
for count in 8 9; do
  reset
  for header in $headers; do
    echo "#include \"$header\""
  done | sed -n "1,${count}p" > "$tree/tests/a.h"
  said=$("$here/layering.sh" "$tree")
  case "$count $said" in
  '8 ' | '9 tests/a.h:9: a header needs at most 8 others'*) ;;
  *)
    echo "$count headers in one: found $said"
    failures=1
    ;;
  esac
done

accepted comm/a.c '#include <mpi.h>'
accepted comm/a.c '#include "kernels/device.h"'
accepted comm/nccl.c '#include <nccl.h>'
accepted kernels/cuda/a.cu '#include <cuda_runtime.h>'
accepted placement/methods/program.c '#include <glpk.h>'
accepted placement/solve/a.c '#include "runtime/base/timer.h"'
accepted placement/trace/a.c '#include "runtime/base/status.h"'
accepted launch/run/a.c '#include "runtime/model/model.h"'
accepted launch/results/a.c '#include "launch/requests/prompts.h"'
accepted launch/requests/a.c '#include "launch/lines.h"'
accepted launch/requests/a.c '  free(x);'
accepted runtime/moe/a.c '#include "runtime/report/counters.h"'
accepted runtime/moe/a.c '#include "kernels/kernels.h"'
accepted runtime/serve/a.c '#include "placement/methods/method.h"'
accepted tests/a.c '#include "support/cmocka.h"'
accepted runtime/base/config_load.c 'extern char **environ;'
accepted kernels/a.c '  moerun__free(x);'
accepted kernels/a.c '  /* the caller calls free(x) and exit(1) */'
accepted runtime/moe/a.c '  x = "exit(1) of the program";'
accepted runtime/moe/a.c '  assert(x == 4 && y <= 5 && z != 6);'
accepted runtime/moe/a.c '  assert(first(a) == 4 &&
         (flags & mask) != 0 && other(b, c));
  fill(&x); i++;'
accepted runtime/base/a.c '  fprintf(stream, "%d", x);'
accepted runtime/base/a.c '  fprintf(stream, "(");
  log_to(stderr);'
accepted runtime/model/a.c '  x = realpath(path, memory);'
accepted launch/run/a.c '  fprintf(
      stderr, "%d", x);'
accepted kernels/a.c '#pragma omp parallel for'
accepted kernels/cuda/a.cu '#include <cub/cub.cuh>'
accepted launch/run/a.c '  printf("%d", x);'
exit $failures
