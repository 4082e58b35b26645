#!/bin/sh
# The loop profile -> place -> profile with the placement: the rows and bytes
# that the transport counts are the ones predicted. Then what place refuses.
set -u
. "$(dirname "$0")/common.sh"
export MOERUN_OVERWRITE=true # names are used again
cd "$scratch" || exit 1

# number KEY FILE: the first value of the key.
number() {
  tr -d '\n' < "$2" | sed -n "s/.*\"$1\": \([0-9]*\),.*/\1/p"
}

# predicted WHICH KEY FILE: of the recorded run, contiguous or placed.
predicted() {
  tr -d '\n' < "$3" |
    sed -n "s/.*\"recorded_run\".*\"$1\": {[^}]*\"$2\": \([0-9]*\).*/\1/p"
}

# compare WHICH METRICS TABLES: predictions with what was counted.
compare() {
  for key in copies_sent results_sent row_bytes; do
    foretold=$(predicted "$1" $key "$3")
    counted=$(number $key "$2")
    [ -n "$foretold" ] && [ "$foretold" -gt 0 ] ||
      complain "$3: no $key predicted"
    [ "$foretold" = "$counted" ] ||
      complain "$1: $key: predicted $foretold, counted $counted"
  done
}

# refuse CODE WORDS ARGUMENT...: of place; one line, nothing on stdout.
refuse() {
  code=$1 words=$2
  shift 2
  on 0 place "$@"
  found=$?
  [ "$(wc -l < err)" = 1 ] || found="$found with other than one line"
  [ ! -s out ] || found="$found with something on stdout"
  if [ "$found" != "$code" ] || ! grep -qF -- "$words" err; then
    complain "place $*: expected $code and '$words', found $found and:"
    cat out err
  fi
}

# ---- What is predicted is what is counted

prompts 9 > prompts
for R in 3 4; do
  succeed $R profile --model "$model" --balance off --prompts prompts --trace t.npy \
    --output out.$R --overwrite --metrics m.blocks
  succeed 0 place --trace t.npy --ranks $R --output p --json j --model "$model"
  says 'certified gap'
  compare contiguous m.blocks j
  succeed $R profile --model "$model" --balance off --prompts prompts --trace u.npy \
    --output out.placed --overwrite --metrics m.placed --placement p
  same out.$R out.placed
  # Which rank runs a sequence depends on the run alone: so what was predicted
  # before the placement was used holds, too.
  same t.npy u.npy
  same t.json u.json
  compare placed m.placed j
  succeed 0 place --trace u.npy --ranks $R --placement p --json j \
    --model "$model"
  says 'given, not solved here'
  compare placed m.placed j
done
same out.3 out.4
succeed 3 profile --model "$model" --balance off --prompts prompts --trace t.npy \
  --output out.half --overwrite --metrics m.blocks --wire bf16
succeed 0 place --trace t.npy --ranks 3 --json j --model "$model" --wire bf16
compare contiguous m.blocks j

# ---- Half of the sequences is solved for, the other half judges

# judged HALF FILE: what it says of the contiguous placement and of the one that
# was solved.
judged() {
  tr -d '\n' < "$2" |
    sed -n "s/.*\"$1\": {\(\"contiguous\": {[^}]*}, *\"placed\": {[^}]*}\)}.*/\1/p"
}

prompts 2 > both
head -n 1 both > first
tail -n 1 both > second
for half in both first second; do
  succeed 0 profile --model "$model" --prompts $half --trace $half.npy \
    --output out.$half --overwrite
done
succeed 0 place --trace both.npy --ranks 3 --method contiguous --json j.both
succeed 0 place --trace first.npy --ranks 3 --method contiguous --train all \
  --json j.first
succeed 0 place --trace second.npy --ranks 3 --method contiguous --train all \
  --json j.second
[ -n "$(judged train j.both)" ] || complain 'j.both: nothing judged'
[ "$(judged train j.both)" != "$(judged held_out j.both)" ] ||
  complain 'two sequences are judged alike'
[ "$(judged train j.both)" = "$(judged train j.first)" ] ||
  complain 'the sequence solved for is not judged as it is alone'
[ "$(judged held_out j.both)" = "$(judged train j.second)" ] ||
  complain 'the sequence held out is not judged as it is alone'

# ---- Other formats

cat > r.jsonl << 'END'
{"routed_experts": [[[0, 1], [2, 3]], [[0, 1], [2, 3]]]}
{"routed_experts": [[[2, 3], [0, 1]], [[2, 3], [0, 1]]]}
END
succeed 0 place --describe r.jsonl --ranks 2 --segment 1 --convert c.npy
says '4 tokens in 2 sequences, 2 MoE layers of 4 experts, 2 a token'
says '               2          1.000     1.667      1.000'
says '        2  0.500                 1.000  0.500          0.500'
succeed 0 place --describe c.npy --json d
for words in '"segments": 2' '"experts": 2, "fixed": 0.5, "segment": 1,'; do
  grep -qF "$words" d || complain "d: expected '$words'"
done
succeed 0 place --trace c.npy --topology '1 node x 2 ranks' --train all \
  --method contiguous --export eplb:map --output p
says 'ranks a token visits            1.0000     1.0000'
[ "$(tr -d '\n' < map)" = \
  '{"physical_to_logical_map": [[0, 1, 2, 3],[0, 1, 2, 3]]}' ] ||
  complain "map: $(cat map)"
succeed 0 place --trace c.npy --ranks 2 --placement p --export exflow:csv
[ "$(tr '\n' ' ' < csv)" = 'Expert,Node 0,0 1,0 2,1 3,1 4,0 5,0 6,1 7,1 ' ] ||
  complain "csv: $(cat csv)"
succeed 0 place --method list
says 'contiguous'

# What an even map cannot say is refused before a solve.
"$moerun" place --trace c.npy --ranks 3 --train all --export eplb:even \
  --output q > out 2> err
[ $? = 2 ] && [ ! -e q ] || complain "uneven: expected 2 and no placement"
grep -q '^moerun: --export: .* found 4 experts for 3 ranks; --method eplb' err ||
  complain "uneven: $(cat err)"

# ---- Replicas: loads by the routing rule, and what GLPK says they could be

cat > replicated << 'END'
{"format": "moerun-placement", "version": 1, "model": "", "method": "hand",
 "num_layers": 2, "num_experts": 4, "num_ranks": 2,
 "layers": [[[0, 1], [0], [1], [0, 1]], [[0], [0, 1], [1], [1]]]}
END
succeed 0 place --trace c.npy --ranks 2 --placement replicated --train all \
  --json j
says '  rank load max/mean              1.0000     1.1250'
if on 0 place --trace c.npy --ranks 2 --method topo; then
  succeed 0 place --trace c.npy --ranks 2 --placement replicated --train all \
    --json j
  says '    replicas sharing evenly                  1.0000'
  grep -qF '"replicas_sharing_evenly": {"train": {"load": 1, "worst_load": 1}' \
    j || complain "j: $(cat j)"
else
  refuse 2 'method topo needs GLPK, which this build is without' \
    --trace c.npy --ranks 2 --method topo
  ! grep -q sharing_evenly j || complain "j: $(cat j)"
fi

# ---- Loads alone: the example of EPLB's README

cat > l << 'END'
{"weight": [[90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86],
  [20, 107, 104, 64, 19, 197, 187, 157, 172, 86, 16, 27]]}
END
succeed 0 place --loads l --topology '2 nodes x 2 ranks' --method eplb \
  --expert-groups 4 --spare-slots 1 --export eplb:map --output q --json j
says 'l: loads alone; nothing is known of the traffic'
[ "$(tr -d '\n' < map)" = "{\"physical_to_logical_map\": [\
[4, 5, 7, 8, 3, 4, 5, 6, 0, 1, 2, 10, 1, 9, 10, 11],\
[6, 7, 8, 10, 6, 8, 9, 11, 1, 2, 4, 5, 0, 1, 3, 5]]}" ] ||
  complain "map: $(cat map)"
grep -qF '"contiguous": {"load": 1.53164934, "worst_load": 1.78546713},' j ||
  complain "j: $(cat j)"
grep -qF '"placed": {"load": 1.18972606, "worst_load": 1.21972318}}' j ||
  complain "j: $(cat j)"
grep -q certificate q && complain 'q: a certificate without a trace'
succeed 0 place --loads l --ranks 4 --method lpt
says '  rank load max/mean              1.5316     1.0415'

# A table as SGLang records it: steps are summed, a layer without load is dense.
cat > steps << 'END'
{"logical_count": [[[0, 0, 0, 0], [9, 1, 1, 1], [1, 2, 3, 4]],
  [[0, 0, 0, 0], [0, 5, 4, 3], [4, 3, 2, 1]]]}
END
succeed 0 place --loads steps --ranks 2 --method eplb --slots 4 \
  --export sglang:map
says 'placement of 2 MoE layers of 4 experts on 2 ranks'
says 'the sum of 2 steps'
says '1 of 3 layers without any load, the first number 0'
[ "$(tr -d '\n' < map)" = "{\"physical_to_logical_map\": [\
[0, 1, 2, 3],[0, 3, 1, 2],[0, 2, 1, 3]]}" ] || complain "map: $(cat map)"
succeed 0 place --trace t.npy --ranks 4 --model "$model" --bound none \
  --overwrite --export sglang:map
[ "$(tr -cd '[' < map | wc -c)" = \
  "$(($(sed -n 's/.*"num_hidden_layers": *\([0-9]*\).*/\1/p' \
    "$model/config.json") + 1))" ] || complain "map: $(cat map)"

# Slots in all: EPLB's own example has 16 on 8 ranks, and others have such
# numbers too. Its map, rank by rank.
succeed 0 place --loads l --topology '2 nodes x 4 ranks' --method eplb \
  --expert-groups 4 --slots 16 --export eplb:map
[ "$(tr -d '\n' < map)" = "{\"physical_to_logical_map\": [\
[5, 6, 5, 7, 4, 8, 3, 4, 9, 10, 2, 10, 0, 1, 1, 11],\
[7, 10, 6, 8, 6, 11, 8, 9, 2, 4, 1, 5, 0, 5, 1, 3]]}" ] ||
  complain "map: $(cat map)"
succeed 0 place --loads l --ranks 5 --method eplb --slots 15 --export eplb:map
refuse 2 'slots: expected as many on each of 5 ranks' \
  --loads l --ranks 5 --method eplb --slots 16
refuse 2 'it is about the slots that --method eplb fills' --loads l --ranks 4 --method lpt \
  --slots 16
refuse 2 'expected one of --slots, which counts the slots of all ranks, and' \
  --loads l --ranks 4 --method eplb --slots 16 --spare-slots 1
refuse 2 'found --slots 16' --trace t.npy --ranks 4 --method eplb --slots 16 \
  --bound sdp

# A step of the bound takes long where ranks have many slots together, few
# experts or not: then there is none unless it is asked for.
succeed 0 place --trace t.npy --ranks 700 --method contiguous --json j
grep -q '"bound": null' j || complain "j: expected no bound: $(cat j)"

# ---- Speeds: of a list, or of a run that measured them

succeed 0 place --trace t.npy --ranks 3 --speeds '1, 1,0.25' --spare-slots 2 \
  --json j --output q
says '    in rows, speeds aside'
grep -qF '"row_load": {"train": {"contiguous": {"load": ' j ||
  complain "j: $(cat j)"
grep -qF '"topology": "3 ranks, speed 1 1 0.25"' q || complain "q: $(cat q)"
succeed 4 run --model "$model" --prompts prompts --output out.slow --overwrite \
  --metrics m.slow --fault rank=2,compute=8x,clock=counted
succeed 0 place --trace t.npy --ranks 4 --speeds m.slow --method lpt --output q
grep -q '"topology": "4 ranks, speed 1 1 0\.[0-9]* 1"' q ||
  complain "q: $(grep topology q)"
succeed 0 place --loads l --ranks 4 --method lpt --speeds 1,1,1,0.5
says '4 ranks, speed 1 1 1 0.5'
# Within a tenth of the fastest is as fast.
echo '{"format": "moerun-metrics", "version": 1, "ranks": 4, "balance":
  {"ranks": [{"speed": 0.92}, {"speed": 1}, {"speed": 0.88},
  {"speed": 0.5}]}}' > tenth
succeed 0 place --loads l --ranks 4 --method lpt --speeds tenth
says '4 ranks, speed 1 1 0.88 0.5'
refuse 2 '--speeds: expected 2 speeds with commas between, one of each rank, found 3' \
  --trace c.npy --ranks 2 --speeds 1,2,3
refuse 2 'found "0" at rank 1' --trace c.npy --ranks 2 --speeds 1,0
refuse 2 'found "-1" at rank 1' --trace c.npy --ranks 2 --speeds 1,-1
refuse 2 'found "1e-3" at rank 1' --trace c.npy --ranks 2 --speeds 1,1e-3
refuse 66 'nowhere.json: cannot be opened' \
  --trace c.npy --ranks 2 --speeds nowhere.json
# What is best when the time is up counts; only a proof can be too late.
succeed 0 place --trace t.npy --ranks 4 --objective cut --time-limit 0.000001 \
  --bound none
refuse 2 'within the time limit' --trace c.npy --train all --ranks 2 \
  --objective cut --method exact --time-limit 0.000001
succeed 0 place --trace c.npy --train all --ranks 2 --objective cut \
  --time-limit 0.000001
refuse 65 'm.slow: key "ranks": expected 2 ranks as in the topology, found 4' \
  --trace c.npy --ranks 2 --speeds m.slow
# changed SED WORDS: the metrics of that run, changed, are refused.
changed() {
  sed "$1" m.slow > m.changed
  refuse 65 "m.changed: $2" --trace c.npy --ranks 4 --speeds m.changed
}
changed 's/"balance": {"/"other": {"/' \
  'expected the key "balance" of a run that balanced, found none'
changed 's/"moerun-metrics"/"x"/' \
  'key "format": expected "moerun-metrics", found "x"'
changed 's/"version": 1,/"version": 2,/' 'key "version": expected 1, found 2'
changed 's/"ranks": 4,/"ranks": 3,/' \
  'key "ranks": expected 4 ranks as in the topology, found 3'
changed 's/"speed": 1[.0]*,/"speed": 0,/' \
  'balance: rank 0: key "speed": expected 0.001 to 1000, found 0'
refuse 65 'j: key "format": expected' --trace c.npy --ranks 2 --speeds j
refuse 2 'one of --speeds and the speeds of --topology, found both: 1,2 and "2' \
  --trace c.npy --topology '2 ranks, speed 1 2' --speeds 1,2
refuse 2 '--spare-slots 1 has no effect here: --placement is judged as it is' \
  --trace c.npy --ranks 2 --placement p --spare-slots 1
refuse 2 'method contiguous does not look at speeds' \
  --trace c.npy --ranks 2 --speeds 1,2 --method contiguous

# ---- Blocks that break the load caps: what a larger slack would buy

awk 'BEGIN {
  for (t = 0; t < 80; t++) {
    first = t % 20 < 11 ? 0 : t % 20 < 14 ? 4 : t % 20 < 17 ? 8 : 12
    printf "%s[[%d,%d]]", t ? "," : "{\"routed_experts\": [", first + t % 4,
      first + (t + 1 + t % 3) % 4
  }
  print "]}"
}' > hot.jsonl
succeed 0 place --trace hot.jsonl --ranks 4 --train all --bound none --json j
says '  blocks cost less, 1, but break the load caps of slack 0.05; --slack 1.2 allows'
says '  them, and cd finds 1'
grep -qF '"blocks_break_caps": {"cost": 1, "slack": 1.2, "cost_with_slack": 1}' \
  j || complain "j: $(cat j)"
succeed 0 place --trace hot.jsonl --ranks 4 --train all --bound none --slack 1.2
says '  ranks a token visits            1.0000     1.0000'
grep -q 'blocks cost less' out && complain 'slack 1.2 allows blocks'
succeed 0 place --trace hot.jsonl --ranks 4 --train all --bound none \
  --slack 1.19 --json j
says '--slack 1.2 '
succeed 0 place --trace hot.jsonl --ranks 4 --train all --bound none --method lpt
grep -q 'blocks cost less' out && complain 'lpt looks at loads alone'

# ---- Maps of other systems: run as they are, and judged beside the placement

succeed 0 place --trace t.npy --ranks 4 --model "$model" --output q \
  --export sglang:map
succeed 4 run --model "$model" --prompts prompts --output out.map --overwrite \
  --placement map
same out.4 out.map
succeed 0 info --model "$model" --ranks 4 --placement map
says 'memory per rank, 4 ranks, placement map'
succeed 0 place --trace t.npy --ranks 4 --placement map --model "$model" --json j
says ' judged by '
says 'sequences of --train'
grep -q 'solved for' out && complain 'a placement that was given is said to be solved'
says 'given, not solved here'
succeed 0 place --trace t.npy --ranks 4 --compare map --placement q --json k \
  --model "$model"
says '  compared: map'
says '                                compared'
judged_compared() {
  tr -d '\n' < k | sed -n "s/.*\"compared\": {\"placement\": \"map\".*\
\"$1\": \({\"fanout[^}]*}\).*\"certificate\".*/\1/p"
}
for half in train held_out; do
  found=$(judged_compared $half | tr -d ' ')
  tr -d ' \n' < j | grep -qF "\"placed\":$found" && [ -n "$found" ] ||
    complain "$half of the map: $found; j: $(cat j)"
done
for key in copies_sent results_sent row_bytes; do
  [ "$(predicted compared $key k)" = "$(predicted placed $key j)" ] ||
    complain "$key of the map: $(cat k)"
done
succeed 0 place --loads l --ranks 4 --method eplb --spare-slots 1 \
  --export eplb:map --json j
succeed 0 place --loads l --ranks 4 --method lpt --compare map --json k
says '                              contiguous   compared        lpt'
says '  rank load max/mean              1.5316     1.0324     1.0415'
[ "$(sed -n 's/.*"placed": \(.*\)}$/\1/p' j)" = \
  "$(sed -n 's/.*"compared": \(.*\),$/\1/p' k)" ] || complain "k: $(cat j k)"
# One of EPLB's own with an expert twice on a rank: its loads are judged as they
# are shared there, evenly over slots.
echo '{"logical_count": [[9, 4, 1]]}' > n
echo '{"phy2log": [[0, 0, 2, 1, 1, 0]]}' > twice
succeed 0 place --loads n --ranks 2 --compare twice
says '  rank load max/mean              1.8571     1.0000     1.2857'
refuse 65 'map: expected 6 layers as in t.npy' --trace t.npy --ranks 4 \
  --compare map

# ---- Bounds: of every placement, solved or given

succeed 0 place --trace t.npy --ranks 4 --objective cut --bound sdp \
  --bound-time 1 --output q
says 'certified gap'
grep -q '"bound": 0\.' q || complain "q: no bound"
succeed 0 place --trace t.npy --ranks 4 --objective cut --bound sdp \
  --bound-time 1 --placement q
says 'certified gap'

# ---- What is written is read, where placements cost less than the bound, too

# reads_back FILE: as the placement that it was written as.
reads_back() {
  cp "$1" written
  succeed 0 place --trace hot.jsonl --train all --ranks 4 --bound none \
    --placement written --export eplb:map.back
  cmp -s map.there map.back || complain "$1: not what was written: $(cat map.*)"
  rm -f map.back
}
for method in $("$moerun" place --method list | sed -n 's/^  \([a-z]*\) .*/\1/p')
do
  for objective in fanout cut weighted tail; do
    if on 0 place --trace hot.jsonl --train all --ranks 4 --method "$method" \
      --objective $objective --bound sdp --bound-time 0.1 --time-limit 0.1 \
      --output q --export eplb:map.there; then
      reads_back q
    else # of a method that cannot do this
      grep -qE "method $method|placement: $method: expected" err ||
        complain "$method $objective: $(cat err)"
    fi
  done
done
succeed 0 place --trace hot.jsonl --train all --ranks 4 --method contiguous \
  --output q --export eplb:map.there --json j
says 'no bound applies, because the placement breaks the load caps of slack 0.05'
grep -qF '"bound": null, "gap": null, "proven": false' q || complain "q: $(cat q)"
grep -qF '"breaks_caps": true' j || complain "j: $(cat j)"
for objective in fanout cut weighted tail; do # of another system
  succeed 0 place --trace hot.jsonl --train all --ranks 4 --bound sdp \
    --bound-time 0.1 --objective $objective --placement map.there --output q
  says 'no bound applies'
  reads_back q
done
succeed 0 place --trace hot.jsonl --train all --ranks 4 --bound sdp \
  --bound-time 0.1 --slack 1.2 --placement map.there --output q
says 'certified gap'
reads_back q

# ---- Refusals

refuse 2 '--bound: bounds are of placements without replicas' \
  --trace t.npy --ranks 4 --method eplb --spare-slots 1 --bound sdp
succeed 0 place --loads l --ranks 4
says '  eplb: seed'
refuse 2 'method cd needs the routing of a trace, not loads alone' \
  --loads l --ranks 4 --method cd
refuse 2 'expected --trace with it, found --loads: --compare judges it by loads' \
  --loads l --ranks 4 --placement q
refuse 66 'nowhere.json: cannot be opened' --loads nowhere.json --ranks 4 \
  --method lpt
refuse 2 'expert groups: expected a divisor of 12 experts, found 5' \
  --loads l --ranks 4 --method eplb --expert-groups 5

refuse 2 'expected one of --trace, --loads and --describe, found none'
refuse 2 'expected one of --trace, --loads and --describe, found --trace and --' \
  --trace c.npy --loads l --ranks 2
refuse 2 'expected one of --topology and --ranks, found none' --trace c.npy
refuse 2 'expected one of --topology and --ranks, found both' \
  --trace c.npy --ranks 2 --topology '2 ranks'
succeed 0 place --trace t.npy --topology '2 + 1 ranks, intra 9 GB/s, inter 1 GB/s' \
  --objective weighted
says '2 + 1 ranks, intra 9 GB/s'
refuse 2 'topology "2 rings": expected "ranks" at character 3' \
  --trace c.npy --topology '2 rings'
refuse 2 '--method: expected one of contiguous' --trace c.npy --ranks 2 \
  --method best
refuse 2 '--export: expected eplb:PATH, sglang:PATH or exflow:PATH, found "csv"' \
  --trace c.npy --ranks 2 --export csv
refuse 2 '--slack: expected a number from 1e-06 to 100, found "nan"' \
  --trace c.npy --ranks 2 --slack nan
refuse 66 'nowhere.npy: cannot be opened: no such file' \
  --trace nowhere.npy --ranks 2
refuse 65 'map: expected a .npy file' --trace map --ranks 2
refuse 2 'found --ranks 0' --trace c.npy --ranks 0
refuse 2 'found none; a certificate in the file of --placement names the' \
  --trace c.npy --placement p
refuse 2 '--convert: expected a name that ends in .npy, found conv' \
  --trace c.npy --ranks 2 --convert conv
# A file in the place of another.
echo '{"logical_count": [[1, 2], [3, 4]]}' > counts.json
for given in 'p,it is a placement: --placement and --compare take it' \
  't.json,it describes the trace beside it: give the .npy' \
  'out.3,it is the results of a run: give what `moerun profile` wrote' \
  'counts.json,it is a table of loads: `moerun place` takes it by --loads'; do
  refuse 65 "${given%%,*}: expected a .npy file; ${given#*,}" \
    --trace "${given%%,*}" --ranks 2
done
refuse 65 '; it is a placement' --loads p --ranks 2
refuse 65 '; it is a trace: `moerun place` takes it by --trace' \
  --loads r.jsonl --ranks 2
refuse 65 '; it describes the trace beside it' --trace c.npy --ranks 2 \
  --placement t.json
refuse 74 'nowhere/p: cannot be created' --trace c.npy --ranks 2 \
  --output nowhere/p
refuse 2 '--export: expected --model with sglang:' --trace c.npy --ranks 2 \
  --export sglang:map2
refuse 2 '--output q has no effect here: --describe looks at a trace of its own' \
  --describe c.npy --output q
refuse 2 'has no effect here: expected --trace with it, found --loads' \
  --loads l --ranks 4 --method lpt --model "$model"
head -n 1 r.jsonl > one.jsonl
refuse 65 'one.jsonl: expected 2 sequences or more' --trace one.jsonl --ranks 2
refuse 65 'p: key "num_ranks": expected 3, found 2: use 2 ranks, or solve it' \
  --trace c.npy --ranks 3 --placement p
refuse 65 'expected 2 MoE layers of 4 experts, 2 a token, as in c.npy, found' \
  --trace c.npy --ranks 2 --model "$model"
refuse 65 'expected loads, found a trace of expert ids, as t.json says:' \
  --loads t.npy --ranks 2
refuse 2 '--export: expected as many experts on every rank' \
  --trace c.npy --ranks 3 --method contiguous --export eplb:map2
"$moerun" place --trace t.npy --ranks 3 --train all --spare-slots 1 \
  --method contiguous --export eplb:even --output q > out 2> err
[ $? = 65 ] && [ ! -e even ] || complain "uneven spare slots: expected 65"
grep -q '^moerun: --export: .*; the placement is in q all the same' err ||
  complain "uneven spare slots: $(cat err)"
succeed 0 place --trace t.npy --ranks 3 --train all --placement q
rm -f q
[ ! -e map2 ] || complain 'map2 was written'
exit $failures
