#!/bin/sh
# The arrows of CONTRIBUTING.md, checked on the sources under ROOT (default: here).
# Each room may include itself and the rooms that its line of the table names:
#
#   launch > runtime: serve > report > decoder > moe > plan, model, text > base
#            placement: solve > methods > search, bound > judge > trace, map > base
#            comm > kernels/device.h; comm, kernels > base
#   in launch: results > requests > lines
#
# report/counters is below moe: what each rank counts is collected above it.
# Then come the things that one place alone may do. Prints one line per broken
# rule; exit status 1 if there is any.
cd "${1:-.}" || exit 2
folders=
for folder in runtime placement comm kernels launch tests benchmarks; do
  [ -d "$folder" ] && folders="$folders $folder"
done
# shellcheck disable=SC2086 # a list of words
find $folders \( -name '*.[ch]' -o -name '*.cu' -o -name '*.cuh' \) \
  ! -path '*/build/*' | LC_ALL=C sort | {
  files=$(cat)
  [ -n "$files" ] || { echo "no sources under $PWD"; exit 2; }
  # shellcheck disable=SC2086
  awk '
function room_of(path,  part) {
  if (path ~ /^runtime\/include\//) return "public"
  if (path ~ /^runtime\/report\/counters\./) return "counters"
  if (path == "kernels/device.h") return "device"
  if (path ~ /^launch\/lines\./) return "lines"
  if (path ~ /^support\//) return "tests"
  split(path, part, "/")
  if (part[1] ~ /^(runtime|placement)$/) return part[2]
  if (part[1] == "launch" && part[2] ~ /^(requests|results)$/) return part[2]
  return part[1]
}
function broken_at(line, rule, text) {
  printf "%s:%d: %s: %s\n", FILENAME, line, rule, text
  failed = 1
}
function broken(rule) { broken_at(FNR, rule, $0) }
# How many parentheses of `text` are open at its end.
function open_in(text,  closed) {
  closed = gsub(/\)/, "", text)
  return gsub(/\(/, "", text) - closed
}
function exists(path, line, found) {
  found = (getline line < path) >= 0
  close(path)
  return found
}
# What the rooms of `others` may include, and the room itself.
function arrows(room, others,  part, n, i) {
  may[room] = " " room " "
  n = split(others, part, " ")
  for (i = 1; i <= n; i++) may[room] = may[room] part[i] " "
}
BEGIN {
  heap = "allocation goes through runtime/base/memory.h"
  prints = "a library prints nothing: lines go through runtime/base/log.h"
  arrows("public", "")
  arrows("base", "")
  arrows("device", "base")
  arrows("comm", "base device")
  arrows("kernels", "base device")
  arrows("trace", "base")
  arrows("map", "base")
  arrows("judge", "base trace map")
  arrows("search", "base trace map judge")
  arrows("bound", "base trace map judge")
  arrows("methods", "base trace map judge search bound")
  arrows("solve", "base trace map judge methods")
  lower = "base comm device kernels map"
  arrows("text", "base")
  arrows("counters", "base")
  arrows("plan", "base map")
  arrows("model", lower)
  arrows("moe", lower " plan model counters")
  arrows("decoder", lower " plan model text counters moe")
  arrows("report", lower " plan model counters moe decoder")
  arrows("serve", lower " methods plan model text counters moe decoder " \
                  "report")
  arrows("lines", "base")
  arrows("requests", "serve text lines base")
  arrows("results", "serve decoder model text requests lines base")
  all = "serve report decoder moe counters plan model text methods search " \
        "bound judge trace " lower
  arrows("launch", "results requests lines " all)
  arrows("benchmarks", "tests launch results requests lines " all)
  arrows("tests", "benchmarks launch results requests lines " all)
}
FNR == 1 {
  room = room_of(FILENAME)
  program = FILENAME ~ /^launch\//
  library = !program && room !~ /^(tests|benchmarks|public)$/
  pure = room ~ /^(plan|trace|map|judge|search|bound|methods)$/
  comment = 0
  included = 0
  call = ""
  if (!(room in may)) broken("no such room: " room)
}
# Comments may speak of anything.
{ code = $0 }
comment { if (!sub(/^.*\*\//, "", code)) next; comment = 0 }
{
  gsub(/\047([^\047\\]|\\.)\047/, "0", code)
  gsub(/"([^"\\]|\\.)*"/, "\"\"", code)
  gsub(/\/\*([^*]|\*[^\/])*\*\//, "", code)
  sub(/\/\/.*/, "", code)
  if (sub(/\/\*.*/, "", code)) comment = 1
}
# Directives with blanks or comments about them, and files of the project between
# angle brackets, are what they are otherwise.
{
  directive = $0
  gsub(/\t/, " ", directive)
  while (sub(/^ *\/\*([^*]|\*[^\/])*\*\//, "", directive)) {}
  if (directive ~ /^ *# *include *<(runtime|placement|comm|kernels|launch|support)\//)
    gsub(/[<>]/, "\"", directive)
}
directive ~ /^ *# *include *"/ {
  if (FILENAME ~ /\.(h|cuh)$/ && ++included > 8)
    broken("a header needs at most 8 others")
  split(directive, part, "\"")
  target = part[2]
  if (!index(may[room], " " room_of(target) " "))
    broken(room " may not include " room_of(target))
  else if (!exists(target) && !exists("tests/" target))
    broken("includes are written from the repository root")
  if (target ~ /base\/timer\.h$/ && pure)
    broken("what is planned or placed looks at no clock")
}
directive ~ /^ *# *include *<(mpi\.h|moerun\/moerun_mpi\.h)>/ {
  if (room != "comm" && library) broken("MPI belongs to comm and launch")
}
directive ~ /^ *# *include *<glpk\.h>/ {
  if (FILENAME !~ /^placement\/methods\/program\.c$/)
    broken("GLPK belongs to placement/methods/program.c")
}
directive ~ /^ *# *include *<((cuda|cublas|cuda_|device_launch)[^>]*|(cub|thrust)\/[^>]*)>/ {
  if (FILENAME !~ /^kernels\/cuda\//) broken("CUDA belongs to kernels/cuda")
}
directive ~ /^ *# *include *<nccl[^>]*>/ {
  if (FILENAME !~ /^comm\/nccl[^\/]*$/) broken("NCCL belongs to comm/nccl")
}
directive ~ /^ *# *include *<(time|sys\/time)\.h>/ {
  if (pure) broken("what is planned or placed looks at no clock")
}
directive ~ /^ *# *include *<(threads|pthread|omp)\.h>/ {
  if (library && FILENAME !~ /^runtime\/serve\/replacer\.h$/)
    broken("placements are solved in a thread, and nothing else is")
}
directive ~ /^ *# *pragma +omp([^a-z]|$)/ || /(^|[^A-Za-z_])_Pragma *\( *"omp/ {
  if (pure || FILENAME ~ /^placement\//)
    broken("plans and placements are made by one thread each")
}
code ~ /(^|[^a-z_])(getenv|secure_getenv|environ)([^a-z_]|$)/ {
  if ((library || program) && FILENAME !~ /config_load\.c$/)
    broken("only config_load.c reads the environment")
}
code ~ /(^|[^a-z_])(malloc|calloc|realloc|reallocarray|aligned_alloc|posix_memalign|memalign|valloc|strdup|strndup|asprintf|vasprintf|getline|getdelim|open_memstream|free) *\(/ {
  if (library && FILENAME !~ /base\/memory\.c$/)
    broken(heap)
}
code ~ /(^|[^a-z_])(time|clock_gettime|gettimeofday|timespec_get|moerun__now|thrd_sleep|nanosleep|usleep|sleep) *\(/ {
  if (pure) broken("what is planned or placed looks at no clock")
}
# A call that may go on for lines is looked at as a whole, at its last line.
call == "" && code ~ /(^|[^a-z_])(assert|realpath|v?fprintf|fputs|fputc|putc|fwrite) *\(/ {
  first = FNR
  text = $0
  call = " "
}
call != "" {
  call = call code " "
  if (open_in(call) <= 0 || code ~ /[;{}] *$/) {
    if (library && FILENAME !~ /base\/log\.c$/ && \
        call ~ /[^a-z_](v?fprintf|fputs|fputc|putc|fwrite) *\((.*[^a-z_])?std(out|err)[^a-z_]/)
      broken_at(first, prints, text)
    if (library && FILENAME !~ /base\/memory\.c$/ && \
        call ~ /[^a-z_]realpath *\(.*, *(NULL|0|nullptr) *\)/)
      broken_at(first, heap, text)
    if (call ~ /[^a-z_]assert *\(.*(\+\+|--|[^=!<>]=[^=]|<<=|>>=)/ || \
        call ~ /[^a-z_]assert *\(.*[A-Za-z0-9_\]] *\((.*, *)?&[A-Za-z_(]/)
      broken_at(first, "an assertion changes nothing: it is not there in " \
                       "every build", text)
    call = ""
  }
}
code ~ /(^|[^a-z_])(printf|vprintf|puts|putchar|perror) *\(/ || \
code ~ /(^|[^a-z_])(v?dprintf|write) *\( *(1|2|STD(OUT|ERR)_FILENO) *,/ {
  if (library && FILENAME !~ /base\/log\.c$/) broken(prints)
}
code ~ /(^|[^a-z_])(exit|_exit|_Exit|quick_exit|abort|raise|MPI_Abort) *\(/ {
  if (library) broken("a library does not end the program")
}
code ~ /MPI_COMM_WORLD/ {
  if (library) broken("a library works on the communicator it is given")
}
END { exit failed }
' $files
}
