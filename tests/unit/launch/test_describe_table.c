/* What `place --describe` prints, of a description made by hand in which no two
 * numbers are alike. Its JSON is read back
 * in tests/run. */
#include "launch/place/describe_table.h"
#include "support/scratch.h"

static moerun__layer_facts layers[] = {
    {3, 1, 2.5, 0.75, 0.5, 0.062, 0.25, 0.125},
    {7, 0, 1.5, 0.25, 0, 0, 0.375, 0.313}};
static const moerun__description description = {
    .num_layers = 2,
    .segment_tokens = 64,
    .num_segments = 9,
    .layer = layers,
    .mean = {-1, 4, 2, 0.63, 0.438, 0.031, 0.281, 0.219},
    .num_blocks = 1,
    .block = {{2, 1.25, 1.5, 1.75}},
    .num_caches = 1,
    .cache = {{5, 0.1, 0.2, 0.3, 0.4}}};
static const moerun__trace trace = {.num_tokens = 100,
                                    .num_layers = 2,
                                    .num_experts = 8,
                                    .num_terms = 3,
                                    .num_sequences = 6};

static void the_table_is_in_its_columns(void **state) {
  (void)state;
  static const char wanted[] =
      "trace t.npy\n"
      "  100 tokens in 6 sequences, 2 MoE layers of 8 experts, 3 a token\n"
      "\n"
      "         hottest expert       load          next layer's    others of "
      "the token\n"
      "  layer  expert  max/mean  variation  unused  affinity  chance  "
      "affinity  chance\n"
      "      0       3      2.50       0.75       1     0.500   0.062     "
      "0.250 "
      "  0.125\n"
      "      1       7      1.50       0.25       0         -       -     "
      "0.375 "
      "  0.313\n"
      "   mean              2.00       0.63       4     0.438   0.031     "
      "0.281 "
      "  0.219\n"
      "\n"
      "  in blocks over  ranks a token  drawn at  rank load\n"
      "           ranks         visits    random   max/mean\n"
      "               2          1.250     1.500      1.750\n"
      "\n"
      "  share of a layer's terms that a cache of so many experts serves\n"
      "  (9 segments of up to 64 tokens)\n"
      "  experts  fixed  best of each segment    LRU  best possible\n"
      "        5  0.100                 0.200  0.300          0.400\n";
  char text[4096] = "";
  FILE *stream = tmpfile();
  assert_non_null(stream);
  moerun__describe_print(stream, "t.npy", &trace, &description);
  rewind(stream);
  assert_true(fread(text, 1, sizeof text - 1, stream) > 0);
  (void)fclose(stream);
  assert_string_equal(text, wanted);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_table_is_in_its_columns),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
