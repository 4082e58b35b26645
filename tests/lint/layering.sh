#!/bin/sh
# The layers of the design, checked on the sources under ROOT (default: here):
#
#   launch, tests, benchmarks > runtime > placement | comm | kernels > base
#
# plus what only one place may do: MPI, GLPK, the environment, the heap, ending
# the program. Prints one line per broken rule; exit status 1 if there is any.
cd "${1:-.}" || exit 2
folders=
for folder in runtime placement comm kernels launch tests benchmarks; do
  [ -d "$folder" ] && folders="$folders $folder"
done
# shellcheck disable=SC2086 # a list of words
find $folders -name '*.[ch]' ! -path '*/build/*' | LC_ALL=C sort | {
  files=$(cat)
  [ -n "$files" ] || { echo "no sources under $PWD"; exit 2; }
  # shellcheck disable=SC2086
  awk '
function layer_of(path) {
  if (path ~ /^runtime\/base\//) return "base"
  if (path ~ /^runtime\/include\//) return "public"
  if (path ~ /^support\//) return "tests"
  sub(/\/.*/, "", path)
  return path
}
function broken(rule) {
  printf "%s:%d: %s: %s\n", FILENAME, FNR, rule, $0
  failed = 1
}
function exists(path, line, found) {
  found = (getline line < path) >= 0
  close(path)
  return found
}
BEGIN {
  may["base"] = " base "
  may["public"] = " "
  may["placement"] = " base placement "
  may["comm"] = " base comm "
  may["kernels"] = " base kernels "
  may["runtime"] = " base placement comm kernels runtime "
  may["launch"] = may["runtime"] "launch "
  may["tests"] = may["launch"] "tests benchmarks "
  may["benchmarks"] = may["runtime"] "tests benchmarks "
}
FNR == 1 {
  layer = layer_of(FILENAME)
  library = layer ~ /^(base|placement|comm|kernels|runtime)$/
  user = layer ~ /^(launch|tests|benchmarks)$/
}
/^ *# *include *"/ {
  split($0, part, "\"")
  target = part[2]
  if (!index(may[layer], " " layer_of(target) " "))
    broken(layer " may not include " layer_of(target))
  else if (!exists(target) && !exists("tests/" target))
    broken("includes are written from the repository root")
}
/^ *# *include *<(mpi\.h|moerun\/moerun_mpi\.h)>/ {
  if (layer != "comm" && !user && FILENAME !~ /moerun_mpi\.h$/)
    broken("MPI belongs to comm and launch")
}
/^ *# *include *<glpk\.h>/ {
  if (FILENAME !~ /placement\/program\.c$/)
    broken("GLPK belongs to placement/program.c")
}
/(^|[^a-z_])(getenv|secure_getenv|environ)([^a-z_]|$)/ {
  if ((library || layer == "launch") && FILENAME !~ /config_load\.c$/ \
      && $0 !~ /^ ?(\/)?\*/)
    broken("only runtime/base/config_load.c reads the environment")
}
/(^|[^a-z_])(malloc|calloc|realloc|aligned_alloc|free) *\(/ {
  if (library && FILENAME !~ /base\/memory\.c$/)
    broken("allocation goes through runtime/base/memory.h")
}
/^ *# *include *<(threads|pthread)\.h>/ {
  if (library && FILENAME !~ /^runtime\/replacer\.h$/)
    broken("placements are solved in a thread, and nothing else is")
}
/(^|[^a-z_])(exit|_exit|abort|MPI_Abort) *\(/ {
  if (library) broken("a library does not end the program")
}
/MPI_COMM_WORLD/ {
  if (library) broken("a library works on the communicator it is given")
}
END { exit failed }
' $files
}
