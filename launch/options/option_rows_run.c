/* The options of run, profile and info, and those that all subcommands share.
 * option_rows.h says how to add one. */
#include "comm/comm.h"
#include "launch/options/choices.h"
#include "launch/options/option_rows.h"

static const moerun__config_row input[] = {
    TEXT_ROW("model", "folder", SIZED, WORKS,
             "Folder of a Hugging Face checkpoint: config.json and "
             "safetensors."),
    TEXT_ROW("model", "folder", TEXTS, TEXTS,
             "Folder with the model's tokenizer.json."),
    TEXT_ROW("prompt", "text", RUNS | TOKENIZE, 0,
             "Text of one prompt, in place of a file of prompts."),
    TEXT_ROW("system", "text", CHAT, 0,
             "What the model is told before the conversation, as its template "
             "writes the message of a system."),
    TEXT_ROW("chat_template_kwargs", "json", CHAT, 0,
             "JSON object of what the chat template is told beside the "
             "conversation, as \"chat_template_kwargs\" of a line of "
             "--prompts."),
    TEXT_ROW("prompts", "file", RUNS, 0,
             "JSONL file of the prompts: each line is an object with "
             "\"prompt\" or \"messages\", or all are those of a batch file of "
             "OpenAI's API. It may be a pipe, and - is stdin, here and for "
             "--tokens and --score."),
    BOOL_ROW("lines", RUNS | TOKENIZE,
             "Take each line of --prompts as the text of a prompt, as it "
             "stands, not as JSON."),
    TEXT_ROW("tokens", "file", RUNS, 0,
             "Token ids to use in place of prompts, as .npy or JSONL."),
    TEXT_ROW("prompts", "file", TOKENIZE, 0,
             "JSONL file of the texts: each line is an object with \"prompt\" "
             "or \"messages\", or one of a batch file; - is stdin."),
    TEXT_ROW("tokens", "file", DETOKENIZE, DETOKENIZE,
             "JSONL file of the token ids: each line is an object with "
             "\"tokens\", such as a result of run, or an array; - is stdin."),
    BOOL_ROW("text", TOKENIZE,
             "Write each text beside its ids: of a conversation what the "
             "model's chat template makes of it."),
    BOOL_ROW("keep_special", DETOKENIZE,
             "Write special tokens, too, as they are spelt."),
    TEXT_ROW("score", "file", RUNS, 0,
             "Text whose perplexity is measured; nothing is generated."),
    INT_ROW("window", "256", "tokens", 2, 1048576, RUNS,
            "Length of the pieces that the text of --score is cut into."),
    CHOICE_ROW("add_bos", "auto", "auto|yes|no", RUNS | TOKENIZE,
               "Whether a begin-of-sequence token is put before each prompt. "
               "auto puts it before texts if tokenizer.json's post_processor "
               "does; there is never a second one."),
    CHOICE_ROW("on_error", "auto", "auto|stop|line", RUNS,
               "What a line that is wrong does: stop ends the run before it "
               "begins, line runs the others, writes what is wrong in place of "
               "its result and ends with exit code 65; auto is line for a "
               "batch file, else stop."),
    TEXT_ROW("trace", "file", PLACE, 0,
             "Recorded routing: the .npy that `moerun profile` wrote, with "
             "the .json beside it, or a file of another tool."),
    INT_ROW("trace_experts", "0", "experts", 0, 32767, PLACE,
            "Experts of a layer, for a trace that does not say so; 0 takes "
            "the largest id in the trace plus 1."),
    TEXT_ROW("loads", "file", PLACE, 0,
             "Loads of the experts in place of a trace, [layers][experts] as "
             ".npy or JSON, such as EPLB and SGLang write them."),
    TEXT_ROW("model", "folder", PLACE, 0,
             "Folder of the model that the trace is of. With it, traffic is "
             "given in bytes, too, not in rows alone."),
    TEXT_ROW("describe", "file", PLACE, 0,
             "Trace that is described, with nothing placed: how evenly and "
             "how predictably its experts are used."),
    INT_ROW("segment", "256", "tokens", 1, 1048576, PLACE,
            "Length of the segments for each of which --describe fills a cache "
            "with the experts that serve it best."),
};
const moerun__config_group moerun__options_input = GROUP("Input", input);

static const moerun__config_row output[] = {
    TEXT_ROW("output", "path", RUNS, 0,
             "JSONL file of the results. Without it they go to stdout."),
    BOOL_ROW("stream", RUN,
             "Write texts to stdout as they are generated: that of one prompt "
             "plainly, those of several in pieces, an object a line. Results "
             "go to --output alone. Answers to a batch file are not streamed."),
    TEXT_ROW("output", "path", TEXTS, 0,
             "JSONL file of the ids or texts. Without it they go to stdout."),
    TEXT_ROW("output", "path", SYNTH, SYNTH, "Folder of the new model."),
    TEXT_ROW("output", "path", PLACE, 0,
             "Placement file to write, for `moerun run --placement`."),
    TEXT_ROW("trace", "file", PROFILE, PROFILE,
             "File for the recorded routing, NAME.npy; a NAME.json is "
             "written beside it."),
    BOOL_ROW("resume", RUN,
             "Keep the results that --output holds and run the requests that "
             "are missing; requests that were begun go on where they stopped."),
    DOUBLE_ROW("keep_every", "60", "s", 0, 1e9, RUN,
               "Time after which what unfinished requests have generated is "
               "saved beside --output, for --resume after a node is lost. A "
               "signal that stops the run saves it, too; 0 saves it at a "
               "signal only."),
    BOOL_ROW("overwrite", RUNS | SYNTH | PLACE | TEXTS,
             "Replace files that exist. Without it an output that exists "
             "already is an error."),
    TEXT_ROW("metrics", "file", RUNS, 0,
             "JSON file for times, bytes and loads of this run."),
    TEXT_ROW("json", "file", PLACE, 0,
             "JSON file for the numbers of the tables."),
    TEXT_ROW("export", "target", PLACE, 0,
             "Write the placement for another program, too: eplb:FILE, "
             "sglang:FILE (with --model or --loads) or exflow:FILE."),
    TEXT_ROW("convert", "file", PLACE, 0,
             "Write the trace that was read as this .npy, with a .json "
             "beside it."),
    CHOICE_ROW("progress", "auto", "auto|on|off", WORKS | PLACE | SYNTH,
               "Progress on stderr: on redraws one line in place, as wide as "
               "the terminal; auto does so on a terminal, and elsewhere writes "
               "a line after 10 s and then ever more rarely."),
    TEXT_ROW("progress_terminal", "terminal", WORKS | PLACE | SYNTH, 0,
             "Terminal, such as /dev/pts/3, that stderr ends at although it is "
             "a pipe. launch/mpirun.sh says which."),
};
const moerun__config_group moerun__options_output = GROUP("Output", output);

static const moerun__config_row generation[] = {
    INT_ROW("max_new_tokens", "128", "tokens", 1, 1048576, WORKS,
            "Most tokens that are generated for one prompt."),
    INT_ROW("min_new_tokens", "0", "tokens", 0, 1048576, WORKS,
            "Tokens of a completion before which no end-of-sequence token is "
            "taken, however likely."),
    TEXT_ROW("stop", "text", RUNS, 0,
             "Text at which every completion ends, as it stands (\\n is a "
             "backslash and an n); it is not part of the completion's text. "
             "\"stop\" of a line of --prompts has up to 16."),
    TEXT_ROW("stop", "text", CHAT, 0,
             "Text at which every answer ends, as it stands (\\n is a "
             "backslash and an n); it is not part of the answer."),
    DOUBLE_ROW("temperature", "0", "", 0, 100, WORKS,
               "Temperature of sampling; 0 takes the likeliest token."),
    DOUBLE_ROW("top_p", "1", "", 1e-6, 1, WORKS,
               "Sample among the likeliest tokens that together have this "
               "probability."),
    INT_ROW("top_k", "0", "tokens", 0, INT_MAX_32, WORKS,
            "Sample among so many of the likeliest tokens; 0 means all."),
    DOUBLE_ROW("min_p", "0", "", 0, 1, WORKS,
               "Sample among tokens that have at least this part of the "
               "likeliest one's probability."),
    DOUBLE_ROW("repetition_penalty", "1", "", 0.01, 100, WORKS,
               "Logits of tokens that the prompt or the completion has are "
               "divided by this where they are positive, and multiplied where "
               "negative."),
    DOUBLE_ROW("presence_penalty", "0", "", -2, 2, WORKS,
               "Taken from the logit of each token that the completion has."),
    DOUBLE_ROW("frequency_penalty", "0", "", -2, 2, WORKS,
               "Taken from the logit of a token once for each time that the "
               "completion has it."),
    CHOICE_ROW("generation_config", "off", "off|on", WORKS,
               "Whether settings of sampling that nobody gives are those of "
               "the model's generation_config.json."),
    BOOL_ROW("logprobs", RUNS,
             "Write the log-probability of each generated token beside it, by "
             "the model's own distribution: before penalties and temperature."),
    BOOL_ROW("prompt_logprobs", RUNS,
             "Write that of each token of the prompt but the first."),
    INT_ROW("top_logprobs", "0", "tokens", 0, 20, RUNS,
            "With either of these, so many of the likeliest tokens at each "
            "place, too."),
    INT_ROW(
        "seed", "0", "", 0, INT_MAX_53, WORKS,
        "Seed of the random numbers that sampling and --capacity-metric hash "
        "draw."),
};
const moerun__config_group moerun__options_generation =
    GROUP("Generation", generation);

static const moerun__config_row memory[] = {
    INT_ROW("ranks", "0", "ranks", 0, 1048576, INFO,
            "Ranks to predict the memory for; 0 takes as many as a launcher "
            "has started, without one those of the placement, or 1."),
    INT_ROW("max_tokens", "256", "tokens", 1, 1048576, SIZED,
            "Most rows of one step on one rank: tokens of prompts and tokens "
            "that are being generated."),
    INT_ROW("max_sequences", "16", "requests", 1, 65536, SIZED,
            "Most requests that one rank works on at once; unless it is given, "
            "no more than max_tokens."),
    INT_ROW(
        "kv_tokens", "0", "tokens", 0, INT_MAX_32, SIZED,
        "Room of one rank's KV cache; 0 has room for what the requests need "
        "at once (info assumes max_sequences of 2048 tokens)."),
    CHOICE_ROW("memory_check", "on", "on|off", WORKS,
               "Whether a run ends before it loads anything if the ranks of a "
               "node would take more memory than the node has left; off only "
               "warns."),
    INT_ROW("node_memory", "0", "MiB", 0, 1 << 30, SIZED,
            "Memory that the ranks of one node may take together; 0 means what "
            "the system and its control groups leave, for info where it runs "
            "itself."),
    INT_ROW("prefill_chunk", "0", "tokens", 0, 1048576, WORKS,
            "Most rows of one prompt in a step; 0 means max_tokens."),
    CHOICE_ROW("prefix_cache", "on", "on|off", RUN,
               "Whether what prompts begin with in common is computed once on "
               "a rank, by whole pages of 16 tokens, as long as there is room "
               "in its KV cache. Results are the same."),
};
const moerun__config_group moerun__options_memory = GROUP("Memory", memory);

static const moerun__config_row placement[] = {
    TEXT_ROW("placement", "file", SIZED, 0,
             "File that says which rank hosts which expert. Without it each "
             "rank hosts a block of neighbouring experts. The maps of EPLB, "
             "SGLang, vLLM and ExFlow are read, too."),
    TEXT_ROW("placement", "file", PLACE, 0,
             "Placement, or map of another system, that is judged; none is "
             "solved, and --output writes a copy with the certificate."),
    TEXT_ROW("compare", "file", PLACE, 0,
             "Another placement, or the map of another system, that is judged "
             "beside the placement."),
    INT_ROW("replace_every", "-1", "steps", -1, INT_MAX_32, SIZED,
            "Steps from one look at the routing to the next. After a look, "
            "experts move to other ranks where it repays. 0 never moves "
            "them; -1 moves experts of ranks that stay slow, with --balance "
            "auto, and looks at nothing else."),
    INT_ROW("replace_window", "8192", "tokens", 1, 16777216, SIZED,
            "How many of the latest tokens, of all ranks together, a look of "
            "--replace-every sees."),
    INT_ROW("spare_slots", "-1", "experts", -1, 32767, SIZED,
            "Experts that a rank has room for in each layer beyond an even "
            "share, for --replace-every: replicas, and the experts of slow "
            "ranks. -1 has room for what the others take over if one rank "
            "in every eight is slow, but no more than a quarter of what is "
            "left on the node."),
};
const moerun__config_group moerun__options_placement =
    GROUP("Placement", placement);

static const moerun__config_row balance[] = {
    TABLE_CHOICE_ROW(
        "balance", "auto", moerun__balance_name_at, SIZED,
        "What is done about a rank that would end last. auto: it "
        "gives rows to other ranks, with the experts' weights where "
        "that pays, or all ranks compute a slice of each expert; "
        "sliced: always slices (--slice-memory says of which models). "
        "The results keep their bits."),
    INT_ROW("guest_memory", "0", "MiB", -1, 1 << 26, SIZED,
            "Memory of one rank for weights of other ranks' experts. 0: room "
            "for the rank's part of all experts of a quarter of the ranks (one "
            "at least), at most half of what is left on the node; -1: none."),
    INT_ROW("slice_memory", "0", "MiB", -1, 1 << 26, SIZED,
            "Memory of one rank for its slices of all experts, of as many "
            "layers as there is room for; -1 means all layers; 0 means none, "
            "or all with --balance sliced. Only experts whose width is a "
            "multiple of 32 can be cut."),
    DOUBLE_ROW("balance_threshold", "1.3", "", 1, 1000, WORKS,
               "Balance a layer in which the slowest rank would take this "
               "many times the mean."),
    INT_ROW("balance_rows", "0", "rows", 0, INT_MAX_32, WORKS,
            "Fewest rows, by the time of the fastest rank, for which an "
            "expert's weights are sent; 0 finds it by measuring."),
};
const moerun__config_group moerun__options_balance =
    GROUP("Slow or overloaded ranks", balance);

static const moerun__config_row capacity[] = {
    DOUBLE_ROW("capacity", "0", "", 0, 1000, SIZED,
               "Most rows that an expert takes, as a multiple of an even "
               "share, such as 1.5; rows beyond are dropped. 0 drops none."),
    CHOICE_ROW("capacity_scope", "source", "source|global|request", SIZED,
               "Whose tokens compete for an expert's room: those of one rank, "
               "of all ranks, or of one request."),
    CHOICE_ROW("capacity_level", "auto", "auto|expert|rank", SIZED,
               "Whether the limit is for each expert or for all experts of a "
               "rank together. auto: for those of a rank, but for each "
               "expert with the scope request."),
    CHOICE_ROW("capacity_metric", "auto", "auto|weight|score|first|last|hash",
               SIZED,
               "Which rows stay: those of the highest gate weight or softmax "
               "score, of the first or last position, or drawn ones. auto: "
               "weight, but score with --expanded paper."),
    INT_ROW("capacity_window", "128", "tokens", 1, 1048576, SIZED,
            "Positions of a request that are decided together with the scope "
            "request."),
    BOOL_ROW("capacity_decode", SIZED,
             "Limit tokens that are being generated, too, not those of "
             "prompts alone."),
    CHOICE_ROW("expanded", "off", "off|fill|paper", SIZED,
               "Whether experts of a token's own rank that have room take it "
               "as well: after the rows that the gate sent (fill), or in "
               "competition with them (paper)."),
    INT_ROW("expanded_most", "0", "experts", 0, 64, SIZED,
            "Most experts that a token may ask for in an expansion; 0 means "
            "as many as it lost (fill) or all of its rank (paper)."),
    CHOICE_ROW("drop_weights", "pre", "pre|post|none", SIZED,
               "Gate weights of a token that lost or gained experts: what the "
               "gate gave them (pre), scaled to the sum that all of them had "
               "(post), or the plain scores (none)."),
    BOOL_ROW("keep_best", SIZED, "Never drop a token's best expert."),
    CHOICE_ROW("isolation", "off", "off|route|bitwise", SIZED,
               "Keep one request from changing another's output, whatever is "
               "dropped, by the scope request; route and bitwise do the same. "
               "Without a capacity no request changes another's anyway."),
};
const moerun__config_group moerun__options_capacity =
    GROUP("Capacity of experts (lossy)", capacity);

static const moerun__config_row fewer[] = {
    TEXT_ROW("gate_top_k", "text", SIZED, 0,
             "Most experts of a token: one number for all MoE layers, or by "
             "layer as in 0-7:8,8-25:4. Layers that are not named keep the "
             "model's number."),
    DOUBLE_ROW("gate_top_p", "1", "", 1e-6, 1, SIZED,
               "Take only as many of a token's experts, first ones in gate "
               "order, as together have this part of its gate weights."),
};
const moerun__config_group moerun__options_fewer =
    GROUP("Fewer experts a token (lossy)", fewer);

static const moerun__config_row machine[] = {
    TABLE_CHOICE_ROW(
        "wire", "fp32", moerun__wire_name_at, SIZED | PLACE,
        "Type of the rows that travel between ranks; bf16 halves the "
        "bytes."),
    TABLE_CHOICE_ROW(
        "compute", "fp32", moerun__compute_name_at, SIZED,
        "Type of the activations in products. bf16 rounds them, which "
        "is faster on processors with AVX512-BF16."),
    INT_ROW("chunks", "1", "", 1, 8, SIZED,
            "Parts of a step that are in flight at once."),
    CHOICE_ROW("kernels", "auto", "auto|portable|avx2|avx512|avx512_bf16|ref",
               WORKS,
               "Instruction set of the arithmetic. All but ref give the same "
               "bits."),
    TABLE_CHOICE_ROW("transport", "auto", moerun__transport_name_at, WORKS,
                     "How rows travel. auto: by MPI, or inside the process "
                     "(self) if there is one rank."),
    DOUBLE_ROW("timeout_s", "120", "s", 0, 1e9, WORKS,
               "Longest wait for another rank before the run ends; 0 waits "
               "for ever. Rank 0 may take any time where it works alone: it "
               "reads requests, and completes outputs at the end."),
    BOOL_ROW("allow_singletons", ALL,
             "Go on where a launcher started several processes that MPI does "
             "not know of, or several for place, info or synth, which need "
             "one. Each of them then does all of the work by itself."),
    TEXT_ROW("fault", "text", RUNS, 0,
             "Make ranks slow on purpose, for experiments, such as "
             "rank=2,compute=4x,from=10; launch/README.md has the grammar."),
};
const moerun__config_group moerun__options_machine = GROUP("Machine", machine);

static const moerun__config_row other[] = {
    TEXT_ROW("config", "file", ALL, 0,
             "Read lines `key = value` from this file."),
    CHOICE_ROW("log_level", "info", "error|warn|info|debug", ALL,
               "Least urgent messages that are shown on stderr."),
    BOOL_ROW("config_table", INFO,
             "Print the page of all options (docs/options.md) and end."),
    BOOL_ROW("list_models", INFO,
             "Print which families of models are run and end."),
};
const moerun__config_group moerun__options_other = GROUP("Other", other);
