#!/bin/sh
# tokenize and detokenize: the ids that run feeds a model, and the texts of ids.
set -u
. "$(dirname "$0")/common.sh"
cd "$scratch" || exit 1

# refuse CODE WORDS ARGUMENT...
refuse() {
  code=$1 words=$2
  shift 2
  "$moerun" "$@" > out 2> err
  found=$?
  [ $found = "$code" ] || complain "$*: expected $code, found $found"
  grep -qF -- "$words" err || {
    complain "$*: expected '$words', found:"
    cat err
  }
}

printf 'one\r\n\n two\303\251\n' > lines
printf '{"prompt": "a", "id": "x\\ny"}\n{"prompt": "", "id": 7}\n' > prompts
printf '{"prompt": "<eos>b<bos>"}\n' >> prompts

# Lines as they stand, without their ends; blank ones do not count.
succeed 0 tokenize --model "$model" --lines --prompts lines --output ids
cat > wanted <<'END'
{"id":0,"tokens":[111,110,101]}
{"id":1,"tokens":[32,116,119,111,195,169]}
END
same ids wanted
succeed 0 detokenize --model "$model" --tokens ids
cat > wanted <<'END'
{"id":0,"text":"one"}
{"id":1,"text":" twoé"}
END
same out wanted
succeed 0 tokenize --model "$model" --prompts prompts
cat > wanted <<'END'
{"id":"x\ny","tokens":[97]}
{"id":7,"tokens":[]}
{"id":2,"tokens":[257,98,256]}
END
same out wanted
cp out ids
refuse 65 'ids: exists already: --overwrite replaces it' \
  tokenize --model "$model" --prompts prompts --output ids

# Special tokens are written where they are asked for; results of run are read,
# and so are arrays.
"$moerun" detokenize --model "$model" --tokens - --keep-special < ids > out
echo '{"id":2,"text":"<eos>b<bos>"}' > wanted
sed -n 3p out > third
same third wanted
"$moerun" tokenize --model "$model" --prompts - < prompts |
  "$moerun" detokenize --model "$model" --tokens - > out
echo '{"id":2,"text":"b"}' > wanted
sed -n 3p out > third
same third wanted
prompts 3 > requests
succeed 0 run --model "$model" --prompts requests --output results
succeed 0 detokenize --model "$model" --tokens results
sed 's/.*\("text":".*"\),"finish".*/\1}/' results > wanted
sed 's/{"id":"p[0-9]",//' out > texts
same texts wanted
echo '[72, 105]' > array
succeed 0 detokenize --model "$model" --tokens array
says '{"id":0,"text":"Hi"}'

# What tokenizer.json puts around a text is there unless it is left out; run
# puts it there, too, and takes what was written as ids.
mkdir around
ln -s "$model/model.safetensors" "$model/config.json" around
special() { echo "{\"SpecialToken\": {\"id\": \"$1\", \"type_id\": 0}}"; }
ids() { echo "\"$1\": {\"id\": \"$1\", \"ids\": [$2], \"tokens\": [\"$1\"]}"; }
{
  echo '{"type": "TemplateProcessing", "single": ['
  echo "$(special '<bos>'), $(special '<eos>'),"
  echo '{"Sequence": {"id": "A", "type_id": 0}},'
  echo "$(special '<eos>')"'], "pair": [], "special_tokens": {'
  echo "$(ids '<bos>' 256), $(ids '<eos>' 257)}}"
} | tr -d '\n' > template
sed "s|\"post_processor\": null|\"post_processor\": $(cat template)|" \
  "$model/tokenizer.json" > around/tokenizer.json
printf 'Hi\n<bos>Hi\n' > lines
succeed 0 tokenize --model around --lines --prompts lines --output ids --overwrite
cat > wanted <<'END'
{"id":0,"tokens":[256,257,72,105,257]}
{"id":1,"tokens":[256,72,105,257]}
END
same ids wanted
succeed 0 run --model around --lines --prompts lines --output a \
  --max-new-tokens 5
succeed 0 run --model around --tokens ids --output b --max-new-tokens 5
same a b
succeed 0 tokenize --model around --lines --prompts lines --add-bos no
cat > wanted <<'END'
{"id":0,"tokens":[72,105]}
{"id":1,"tokens":[256,72,105]}
END
same out wanted

# The options of run, by whatever way they come.
succeed 0 tokenize --model "$model" --prompt 'Hi' --add-bos yes
says '{"id":0,"tokens":[256,72,105]}'
MOERUN_ADD_BOS=yes succeed 0 tokenize --model "$model" --prompt '<bos>Hi'
says '{"id":0,"tokens":[256,72,105]}'
refuse 2 'expected one of --prompt and --prompts, found both' \
  tokenize --model "$model" --prompt x --prompts prompts
refuse 2 'expected one of --prompt and --prompts, found none' \
  tokenize --model "$model"

# Ids without a token have no text, and are counted.
echo '[72, 270, 105, 271]' > array
succeed 0 detokenize --model "$model" --tokens array
says '{"id":0,"text":"Hi"}'
grep -q 'array: 2 ids have no token and no text' err || complain "$(cat err)"

# What is wrong is named with its line.
echo 'In the' > wrong
refuse 65 'found "In the"; with --lines each line is a text as it stands' \
  tokenize --model "$model" --prompts wrong
echo '1 2 3' > wrong
refuse 65 'wrong:1: expected a line such as [1, 2, 3] or {"tokens": [1, 2, 3]}' \
  detokenize --model "$model" --tokens wrong
echo '[1 2 3]' > wrong
refuse 65 'wrong:1: column 4: not valid JSON' \
  detokenize --model "$model" --tokens wrong
echo '{"prompt": 5}' > wrong
refuse 65 'wrong:1: key "prompt": expected a string, found an integer; with' \
  tokenize --model "$model" --prompts wrong
printf '{"tokens": [1]}\n{"tokens": [-1]}\n' > wrong
refuse 65 'wrong:2: element 0: expected a token id, found an integer out of' \
  detokenize --model "$model" --tokens wrong
echo '{"text": "x"}' > wrong
refuse 65 'wrong:1: expected an array of token ids, or an object with one as' \
  detokenize --model "$model" --tokens wrong
refuse 66 'nowhere: cannot be opened: no such file' \
  tokenize --model "$model" --prompts nowhere
mkdir empty
refuse 66 'empty/tokenizer.json: cannot be opened: no such file' \
  tokenize --model empty --prompts prompts
touch empty/qwen.tiktoken
refuse 65 '"qwen.tiktoken" beside it is of another kind, which is not read' \
  tokenize --model empty --prompts prompts

[ "$failures" = 0 ]
