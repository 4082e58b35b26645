#!/bin/sh
# Input as people try it: one prompt as an option, pipes and stdin, plain text,
# and options that are typed beside lines with keys of their own.
set -u
. "$(dirname "$0")/common.sh"
data=$(cd "$(dirname "$0")/../data" && pwd)
cd "$scratch" || exit 1
export MOERUN_MODEL=$model MOERUN_MAX_NEW_TOKENS=3 TMPDIR="$scratch/tmp"
mkdir tmp

# made NAME RANKS ARGUMENT...: results as the file NAME.
made() {
  name=$1 ranks=$2
  shift 2
  succeed "$ranks" run "$@" --output "$name"
}

# refuse CODE WORDS ARGUMENT...
refuse() {
  code=$1 words=$2
  shift 2
  on 0 run "$@"
  found=$?
  [ "$found $(wc -l < err)" = "$code 1" ] && grep -qF -- "$words" err || {
    complain "$*: expected $code and '$words', found $found and:"
    cat err
  }
}

cat > lines.jsonl << 'END'
{"prompt": "say \"so\" \\"}
{"prompt": " In the"}
{"prompt": "end"}
END
head -n 1 lines.jsonl > one.jsonl
made one 0 --prompts one.jsonl
made option 0 --prompt 'say "so" \'
same one option

# A line of plain text is the prompt as it stands; blank lines do not count.
printf 'say "so" \\\n In the\r\n\n\nend' > lines.txt
made lines 0 --prompts lines.jsonl
made plain 0 --prompts lines.txt --lines
same lines plain

# What can be read only once is checked and read again all the same.
made stdin 0 --prompts - < lines.jsonl
same lines stdin
mkfifo pipe
cat lines.txt > pipe &
made fifo 0 --prompts pipe --lines
same lines fifo
made ranks 3 --prompts - < lines.jsonl
same lines ranks
made array 0 --tokens "$data/hf/demo/tokens.npy"
made piped 0 --tokens - < "$data/hf/demo/tokens.npy"
same array piped
head -c 700 "$demo/text.txt" > text
made scored 0 --score text --window 64
made piped_score 0 --score - --window 64 < text
same scored piped_score
for left in tmp/moerun*; do # MPI has files of its own there
  [ ! -e "$left" ] || complain "expected nothing of ours in TMPDIR, found $left"
done

refuse 65 'lines.txt:1: expected a line such as {"prompt": "a text"}, found "say' \
  --prompts lines.txt
refuse 65 'with --lines each line is a prompt as it stands' --prompts lines.txt
refuse 65 'lines.txt:1: expected a line such as {"tokens": [1, 2, 3]}, found' \
  --tokens lines.txt
printf '{"prompt": "x"}\nplain' > half
refuse 65 'stdin:2: expected a line such as {"prompt"' --prompts - < half
refuse 65 'stdin: expected at least one request' --prompts - < /dev/null
refuse 2 'found --prompt and --prompts' --prompts lines.txt --prompt x
refuse 2 '--lines has no effect here: it is about the lines of --prompts' \
  --prompt x --lines
# An option that is typed holds for lines that say otherwise, and is said to; a
# variable or a file is for those that do not say.
cat > keys.jsonl << 'END'
{"prompt": "x", "max_new_tokens": 2, "temperature": 0.9, "top_p": 0.5, "seed": 4}
{"prompt": "y", "max_new_tokens": 5, "seed": 7}
{"prompt": "z"}
END
made as_lines 0 --prompts keys.jsonl
[ ! -s err ] || complain "expected no warning, found $(cat err)"
[ "$(sed 's/.*"tokens":\[\([0-9,]*\)\].*/\1/' as_lines | tr -cd ',\n')" = ",
,,,,
,," ] || complain "expected 2, 5 and 3 tokens, found $(cat as_lines)"
cat > plain.jsonl << 'END'
{"prompt": "x"}
{"prompt": "y"}
{"prompt": "z"}
END
set -- --max-new-tokens 5 --temperature 0.8 --top-p 0.7 --seed 7
made typed 0 --prompts keys.jsonl "$@"
cat > wanted << 'END'
moerun: warning: keys.jsonl: 1 of 3 lines have another "max_new_tokens" of their own; the option's 5 holds for all
moerun: warning: keys.jsonl: 1 of 3 lines have another "temperature" of their own; the option's 0.8 holds for all
moerun: warning: keys.jsonl: 1 of 3 lines have another "top_p" of their own; the option's 0.7 holds for all
moerun: warning: keys.jsonl: 1 of 3 lines have another "seed" of their own; the option's 7 holds for all
END
same wanted err
made without 0 --prompts plain.jsonl "$@"
same without typed

exit "$failures"
