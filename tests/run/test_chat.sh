#!/bin/sh
# Conversations: a run of "messages" is that of the text which the template makes.
set -u
. "$(dirname "$0")/common.sh"
cd "$scratch" || exit 1

# refuse WORDS: the run of `talks` ends with 65 and one line with these words.
refuse() {
  on 0 run --model chat --prompts talks
  found=$?
  [ $found = 65 ] || complain "expected 65, found $found"
  tr -s '\n ' '  ' < err | grep -qF -- "$1" || {
    complain "expected '$1', found:"
    cat err
  }
}

mkdir chat
for file in "$model"/*; do
  ln -s "$file" chat/
done
cat > talks <<'END'
{"id": "a", "messages": [{"role": "user", "content": "Who <eos> made"}]}
END
refuse 'talks:1: key "messages": the model has no chat template'

cat > chat/chat_template.jinja <<'END'
{% if tools %}{{ tools[0].name }}{% endif %}
{%- for m in messages %}
{%- if m.role == 'robot' %}{{ raise_exception('no ' + m.role) }}{% endif -%}
<{{ m.role }}> {{ m.content | trim }}
{% endfor %}
{%- if add_generation_prompt %}<answer>{{ mood }}{% endif %}
END
cat > talks <<'END'
{"id": "a", "messages": [{"role": "user", "content": "Who <eos> made"}]}
{"id": "b", "messages": [{"role": "system", "content": "é"}, {"role": "user", "content": " x "}], "add_generation_prompt": false}
{"id": "c", "messages": [{"role": "user", "content": "y"}], "tools": [{"name": "T"}], "chat_template_kwargs": {"mood": " well"}, "temperature": 0.7}
END
cat > texts <<'END'
{"id": "a", "prompt": "<user> Who <eos> made\n<answer>"}
{"id": "b", "prompt": "<system> é\n<user> x\n"}
{"id": "c", "prompt": "T<user> y\n<answer> well", "temperature": 0.7}
END
succeed 0 run --model chat --prompts texts --output wanted
for ranks in 0 3; do
  succeed "$ranks" run --model chat --prompts talks --output found --overwrite
  same found wanted
done
head -c 100 wanted > found
succeed 0 run --model chat --prompts talks --output found --resume
same found wanted

# What is wrong with one conversation is said of it, and the others are run.
echo '{"id": "d", "messages": [{"role": "robot", "content": "z"}]}' >> talks
refuse 'talks:4: chat/chat_template.jinja: line 3: the chat template says: no robot'
on 0 run --model chat --prompts talks --on-error line --output found \
  --overwrite
head -n 3 found > first
same first wanted
for line in '"prompt": "a", "tools": []' '"messages": []' '"messages": 3' \
  '"messages": [{"role": "user"}], "chat_template_kwargs": 1' \
  '"messages": [{"role": "user"}], "prompt": "a"'; do
  echo "{$line}" > talks
  case $line in
    *'"tools"'*) refuse 'key "tools": expected beside "messages" alone' ;;
    *'[]') refuse 'key "messages": expected at least one, found none' ;;
    *3) refuse 'key "messages": expected an array' ;;
    *kwargs*) refuse 'key "chat_template_kwargs": expected an object' ;;
    *) refuse 'expected one of "prompt", "messages" and "tokens"' ;;
  esac
done

# A template that cannot be read is of no matter to texts.
echo '{% nonsense %}' > chat/chat_template.jinja
succeed 0 run --model chat --prompts texts --output found --overwrite
same found wanted
echo '{"messages": [{"role": "user", "content": "y"}]}' > talks
refuse 'key "messages": the model'\''s chat template cannot be used: chat/chat_template.jinja: line 1: the tag "nonsense" is not known'
[ "$failures" = 0 ]
