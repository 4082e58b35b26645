/* Help. What an option means stands in its row (launch/options/option_rows.h);
 * here is what a subcommand is for and how a first call looks. The examples
 * run as they are from the source tree, on the demo model, so that they can be
 * tried before they are changed; tests/api/test_cli.sh runs them. No line is
 * longer than 80 columns. */
#include "launch/help.h"
#include "launch/options/options.h"

#include "runtime/base/config.h"

#include <string.h>

typedef struct help_page {
  const char *name;
  const char *summary;
  const char *usage;
  const char *about;
  const char *examples;
} help_page;

static const help_page pages[] = {
    {"run", "complete prompts, or measure the perplexity of a text",
     "moerun run --model FOLDER --prompts FILE [--output FILE] [options]",
     "Completes prompts on all ranks together; with --score, measures the\n"
     "perplexity of a text. Start it with mpirun or srun, with "
     "launch/mpirun.sh\n"
     "where there are fewer cores than ranks, or alone for one rank.\n"
     "The results do not depend on the number of ranks. Finished requests are "
     "in\n"
     "the output at once; after an interruption --resume goes on with the "
     "rest.\n",
     "  launch/mpirun.sh -n 4 moerun run --model launch/demo/model \\\n"
     "      --prompts launch/demo/prompts.jsonl --add-bos yes \\\n"
     "      --output results.jsonl\n"
     "  moerun run --model launch/demo/model --add-bos yes \\\n"
     "      --prompts launch/demo/prompts.jsonl \\\n"
     "      --max-new-tokens 16 --temperature 0.8 --seed 7\n"},
    {"profile", "the same as run, and record which experts each token met",
     "moerun profile --model FOLDER --prompts FILE --trace FILE.npy [options]",
     "Does what run does and records which experts each token met. What it\n"
     "writes is what `moerun place` reads, so profile comes before place. The\n"
     "prompts should be like those that the placement is for, a few thousand\n"
     "tokens or more in all.\n",
     "  launch/mpirun.sh -n 4 moerun profile --model launch/demo/model \\\n"
     "      --prompts launch/demo/prompts.jsonl --output recorded.jsonl \\\n"
     "      --add-bos yes --trace trace.npy\n"
     "  moerun profile --model launch/demo/model --trace text.npy \\\n"
     "      --add-bos yes --score launch/demo/text.txt\n"},
    {"chat", "talk with a model, at a terminal or through a pipe",
     "moerun chat --model FOLDER [--system TEXT] [options]",
     "Answers line by line, by the model's chat template, and remembers what "
     "was\nsaid; the answer is written as it is generated. A conversation has "
     "up to\n--kv-tokens tokens, 4096 unless that says otherwise. Ctrl-C ends "
     "an answer; at\nthe prompt it ends the conversation, as /exit and the end "
     "of stdin do; /reset\nforgets what was said, /help lists these. A line "
     "that ends with a "
     "backslash goes\non in the next. A terminal cuts lines at 4095 bytes; "
     "`rlwrap moerun chat` has\narrow keys. On several ranks rank 0 reads "
     "stdin. Ctrl-C would end\nmpirun and with it the conversation: "
     "launch/mpirun.sh hands it on to the ranks,\nand so does "
     "`kill -USR2` of mpirun.\n",
     "  moerun chat --model FOLDER --temperature 0.7\n"
     "  echo \"Who are you?\" | moerun chat --model FOLDER\n"},
    {"place",
     "solve a placement from recorded routing, and say what it is worth",
     "moerun place --trace FILE [--topology LINE] [--output FILE] [options]",
     "Decides which rank hosts which expert: little traffic between ranks at\n"
     "even loads. Prints what the placement is worth beside contiguous blocks, "
     "on\n"
     "sequences that it was not solved for, and how far from the best it can "
     "be.\n"
     "Needs no ranks and no model, only a trace of `moerun profile` or of "
     "another\n"
     "tool, or --loads.\n",
     "  moerun place --trace trace.npy --topology \"2 nodes x 2 ranks\" \\\n"
     "      --output placement.json\n"
     "  moerun place --describe trace.npy\n"},
    {"info", "a model, its memory on each rank, and this build",
     "moerun info [--model FOLDER [--ranks N]] [options]",
     "Says what a model is and how much memory each rank of a run would take,\n"
     "from the headers of its files, before anything is allocated. The "
     "options\n"
     "are those of run that a rank's memory depends on. Without a model it "
     "describes\n"
     "this build.\n",
     "  moerun info --model launch/demo/model --ranks 4\n"
     "  moerun info\n"},
    {"synth", "write a random checkpoint of any size",
     "moerun synth --output FOLDER [options]",
     "Writes a model of random weights as a Hugging Face folder, to measure\n"
     "scaling, speed and memory without a download. Its completions mean "
     "nothing.\n",
     "  moerun synth --output random-model\n"
     "  moerun synth --output four-layers --like qwen3-30b-a3b --layers 4\n"
     "  moerun synth --output wide-model --arch olmoe --layers 2 --hidden 256 "
     "\\\n"
     "      --experts 64 --experts-per-token 8 --expert-width 128\n"},
    {"tokenize", "turn texts into token ids",
     "moerun tokenize --model FOLDER --prompts FILE | --prompt TEXT [options]",
     "Writes the ids that run feeds a model for each text or conversation, one "
     "JSON\nobject a line, which run --tokens reads again. It needs the "
     "model's\n"
     "tokenizer.json, and its chat template for conversations.\n",
     "  moerun tokenize --model launch/demo/model \\\n"
     "      --prompts launch/demo/prompts.jsonl\n"
     "  echo \"Let there be light\" | moerun tokenize \\\n"
     "      --model launch/demo/model --lines --prompts -\n"},
    {"detokenize", "turn token ids into texts",
     "moerun detokenize --model FOLDER --tokens FILE [--output FILE] [options]",
     "Writes the text of each list of ids, one JSON object a line: of results "
     "of\nrun, of what tokenize wrote, or of arrays.\n",
     "  moerun tokenize --model launch/demo/model \\\n"
     "      --prompts launch/demo/prompts.jsonl --output ids.jsonl\n"
     "  moerun detokenize --model launch/demo/model --tokens ids.jsonl\n"
     "  echo '[76, 101, 116]' |\n"
     "  moerun detokenize --model launch/demo/model --tokens -\n"},
};
enum { NUM_PAGES = sizeof pages / sizeof *pages };

void moerun__help_print(FILE *stream) {
  (void)fputs("moerun runs mixture-of-experts language models across MPI "
              "ranks.\n\nusage: moerun SUBCOMMAND [options]\n\n",
              stream);
  for (int i = 0; i < NUM_PAGES; i++) {
    (void)fprintf(stream, "  %-10s %s\n", pages[i].name, pages[i].summary);
  }
  (void)fputs("\n`moerun help SUBCOMMAND` or `moerun SUBCOMMAND --help` shows "
              "examples and the\noptions, `moerun --version` the build. run, "
              "profile and chat start by mpirun or\nsrun, or by "
              "launch/mpirun.sh where there are fewer cores than ranks:\n\n"
              "    launch/mpirun.sh -n 4 moerun run --model FOLDER --prompts "
              "FILE.jsonl\n",
              stream);
}

void moerun__help_print_subcommand(FILE *stream, const char *name) {
  for (int i = 0; i < NUM_PAGES; i++) {
    const help_page *page = &pages[i];
    if (strcmp(page->name, name) != 0) continue;
    (void)fprintf(stream, "usage: %s\n\n%s\nexamples:\n%s", page->usage,
                  page->about, page->examples);
  }
  moerun__config_print_options(stream, &moerun__options, name);
  (void)fputs(
      "\nAn option --some-key is also the variable MOERUN_SOME_KEY and "
      "the key some_key\nof the --config file. An option is stronger "
      "than a variable, a variable is\nstronger than the file. "
      "launch/README.md describes files and exit codes.\nlaunch/ is a folder "
      "of the source and, installed, of share/doc/moerun.\n",
      stream);
}
