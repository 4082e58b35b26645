#!/bin/sh
# Shows layering.sh one violation of each rule, in a tree of its own, and one
# tree without any.
here=$(cd "$(dirname "$0")" && pwd) || exit 2
tree=$(mktemp -d) || exit 2
trap 'rm -rf "$tree"' EXIT
failures=0

reset() {
  rm -rf "${tree:?}"/*
  mkdir -p "$tree/runtime/base" "$tree/comm" "$tree/kernels" "$tree/placement" \
    "$tree/launch" "$tree/tests/support"
  for header in runtime/model.h runtime/base/status.h comm/comm.h \
    kernels/kernels.h placement/placement.h launch/command.h \
    tests/support/cmocka.h; do
    echo '/* empty */' > "$tree/$header"
  done
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

refused placement/a.c '#include <mpi.h>'
refused runtime/a.c '#include <mpi.h>'
refused runtime/a.c '#include <moerun/moerun_mpi.h>'
refused runtime/a.c '#include <glpk.h>'
refused placement/a.c '#include <glpk.h>'
refused comm/a.c '#include "kernels/kernels.h"'
refused kernels/a.c '#include "placement/placement.h"'
refused placement/a.c '#include "comm/comm.h"'
refused kernels/a.c '#include "runtime/model.h"'
refused runtime/base/a.c '#include "comm/comm.h"'
refused runtime/a.c '#include "launch/command.h"'
refused launch/a.c '#include "tests/support/cmocka.h"'
refused comm/a.c '#include "comm.h"'
refused comm/a.c '#include "comm/none.h"'
refused placement/a.c '#include <threads.h>'
refused comm/a.c '  x = getenv("HOME");'
refused launch/a.c 'extern char **environ;'
refused kernels/a.c '  x = malloc(4);'
refused kernels/a.c '  free(x);'
refused runtime/a.c '  exit(1);'
refused comm/a.c '  MPI_Abort(comm, 1);'
refused comm/a.c '  MPI_Send(x, MPI_COMM_WORLD);'

accepted comm/a.c '#include <mpi.h>'
accepted placement/program.c '#include <glpk.h>'
accepted launch/a.c '#include "runtime/model.h"'
accepted runtime/a.c '#include "kernels/kernels.h"'
accepted tests/a.c '#include "support/cmocka.h"'
accepted runtime/base/config_load.c 'extern char **environ;'
accepted kernels/a.c '  moerun__free(x);'
exit $failures
