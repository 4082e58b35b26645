/* The line that says how far a command is: what it has at each width, and when
 * it is shown, by a made-up clock. */
#include "support/cmocka.h"

#include "launch/run/progress.h"
#include "runtime/base/log.h"

#include <stdlib.h>
#include <string.h>

/* ---- The line ------------------------------------------------------------ */

static const moerun__progress steps = {.prompt_tokens = 40000,
                                       .generated_tokens = 5000,
                                       .finished = 3,
                                       .prefill_seconds = 2,
                                       .decode_seconds = 0.5,
                                       .decode_tokens = 4000,
                                       .load_routed = 10.125,
                                       .load = 1.04,
                                       .idle = 0.12,
                                       .last_rank = 15,
                                       .offered = 1000,
                                       .dropped = 123};

/* A bar of 1000 requests, 900 of them there before, an hour from its end. */
static moerun__progress_bar bar_of(moerun__progress_mode mode) {
  moerun__progress_bar bar = {.mode = mode, .total = 1000, .resumed = 900};
  const moerun__work work = {100, 1000000, 1000000};
  moerun__estimate_begin(&bar.estimate, &work);
  bar.estimate.end = 3600;
  return bar;
}

static void expect_line(moerun__progress_mode mode, int columns,
                        const char *expected) {
  char line[512];
  moerun__progress_line fields = {0};
  const moerun__progress_bar bar = bar_of(mode);
  moerun__progress_print(&fields, &bar, &steps, 0);
  (void)moerun__progress_fit(line, sizeof line, &fields, columns);
  assert_string_equal(line, expected);
}

/* The line at the time `now` when so many of the 100 requests of this run are
 * finished. */
static void expect_line_at(double now, int64_t finished, const char *expected) {
  char line[512];
  moerun__progress_line fields = {0};
  const moerun__progress_bar bar = {
      .mode = MOERUN_PROGRESS_BAR, .total = 100, .estimate = {.end = 3600}};
  const moerun__progress p = {.finished = finished};
  moerun__progress_print(&fields, &bar, &p, now);
  (void)moerun__progress_fit(line, sizeof line, &fields, 80);
  assert_string_equal(line, expected);
}

/* Requests that are equally long are finished at the end, all of them. */
static void the_bar_shows_time(void **state) {
  (void)state;
  expect_line_at(0, 0, "[........] 0/100, 1:00:00 left");
  expect_line_at(1800, 0, "[####....] 0/100, 30:00 left");
  expect_line_at(1800, 75, "[######..] 75/100, 30:00 left");
  expect_line_at(3599, 99, "[#######.] 99/100, 0:01 left");
  expect_line_at(3599, 100, "[########] 100/100");
}

static void fields_go_in_order(void **state) {
  (void)state;
  expect_line(MOERUN_PROGRESS_BAR, 200,
              "[#######.] 903/1000, at most 1:00:00 left, prefill 20000/s, "
              "decode 8000/s, load 10.12>1.04, idle 12%, last 15, drop 12.3%");
  expect_line(MOERUN_PROGRESS_BAR, 80,
              "[#######.] 903/1000, at most 1:00:00 left, decode 8000/s, drop "
              "12.3%");
  expect_line(MOERUN_PROGRESS_BAR, 60,
              "[#######.] 903/1000, at most 1:00:00 left, decode 8000/s");
  expect_line(MOERUN_PROGRESS_BAR, 40, "903/1000, at most 1:00:00 left");
  expect_line(MOERUN_PROGRESS_BAR, 20, "903/1000");
  expect_line(MOERUN_PROGRESS_LINES, 200,
              "903/1000, at most 1:00:00 left, prefill 20000/s, decode 8000/s, "
              "load 10.12>1.04, idle 12%, last 15, drop 12.3%");
}

static void no_line_is_wider_than_it_may(void **state) {
  (void)state;
  moerun__progress_line fields = {0};
  const moerun__progress_bar bar = bar_of(MOERUN_PROGRESS_BAR);
  int before = MOERUN_PROGRESS_FIELDS;
  moerun__progress_print(&fields, &bar, &steps, 0);
  for (int columns = 0; columns <= 200; columns++) {
    char line[512];
    const int left_out =
        moerun__progress_fit(line, sizeof line, &fields, columns);
    assert_true(strlen(line) <= (size_t)columns);
    assert_true(left_out <= before);
    before = left_out;
  }
  assert_int_equal(before, 0);
  char small[6];
  (void)moerun__progress_fit(small, sizeof small, &fields, 80);
  assert_string_equal(small, "903/1");
}

static void expect_left(double seconds, int bound, const char *expected) {
  moerun__progress_line line = {0};
  moerun__progress_add_left(&line, 0, seconds, bound);
  assert_string_equal(line.field[0].text, expected);
}

static void times_read_like_a_clock(void **state) {
  (void)state;
  expect_left(0, 0, "0:00 left");
  expect_left(0.2, 0, "0:01 left");
  expect_left(754, 0, "12:34 left");
  expect_left(3600, 1, "at most 1:00:00 left");
  expect_left(359999, 0, "99:59:59 left");
  expect_left(864000, 0, "10 days left");
  expect_left(1e300, 0, "10000 days left");
}

static void bars_are_full_at_the_end_alone(void **state) {
  (void)state;
  moerun__progress_line line = {0};
  moerun__progress_add_bar(&line, 0, 0, 9);
  moerun__progress_add_bar(&line, 0, 8.99, 9);
  moerun__progress_add_bar(&line, 0, 9, 9);
  assert_string_equal(line.field[0].text, "[........]");
  assert_string_equal(line.field[1].text, "[#######.]");
  assert_string_equal(line.field[2].text, "[########]");
  moerun__progress_add_bytes(&line, 0, "loading", 1250000000, 12345000000);
  moerun__progress_add_bytes(&line, 0, "loading", 1250000, 999000000);
  assert_string_equal(line.field[3].text, "loading 1.2 of 12.3 GB");
  assert_string_equal(line.field[4].text, "loading 1.2 of 999.0 MB");
  /* Fields beyond those that there can be. */
  for (int i = 0; i < MOERUN_PROGRESS_FIELDS; i++) {
    moerun__progress_add(&line, 0, "%d", i);
  }
  assert_int_equal(line.count, MOERUN_PROGRESS_FIELDS);
}

static void expect_step(const moerun__progress *step, const char *expected) {
  char line[512];
  moerun__progress_line fields = {0};
  moerun__progress_bar bar = bar_of(MOERUN_PROGRESS_LINES);
  bar.estimate.end = -1;
  moerun__progress_print(&fields, &bar, step, 0);
  (void)moerun__progress_fit(line, sizeof line, &fields, 200);
  assert_string_equal(line, expected);
}

static void rates_have_no_digits_that_nobody_reads(void **state) {
  (void)state;
  moerun__progress step = {.decode_seconds = 100, .prefill_seconds = 1};
  expect_step(&step, "900/1000"); /* neither rates nor loads before any */
  step.decode_tokens = 4;
  expect_step(&step, "900/1000, decode 0.0/s");
  step.decode_tokens = 9994;
  expect_step(&step, "900/1000, decode 99.9/s");
  step.decode_tokens = 9996;
  expect_step(&step, "900/1000, decode 100/s");
  step.prompt_tokens = 100;
  expect_step(&step, "900/1000, prefill 100/s, decode 100/s");
}

/* ---- When it is shown ---------------------------------------------------- */

static double time_s;

static double made_clock(void) {
  return time_s;
}

static void open_bar(moerun__progress_bar *bar, const char *choice,
                     FILE *stream) {
  const moerun__progress_options options = {
      .choice = choice, .terminal = "", .stream = stream, .clock = made_clock};
  time_s = 1000;
  moerun__progress_open(bar, &options);
}

/* All that was written, which is forgotten. */
static const char *written(FILE *stream) {
  static char text[4096];
  (void)fflush(stream);
  const long end = ftell(stream);
  rewind(stream);
  const size_t got = fread(text, 1, sizeof text - 1, stream);
  assert_true(end >= 0 && got >= (size_t)end);
  text[end] = '\0';
  rewind(stream);
  return text;
}

static void lines_come_ever_more_rarely(void **state) {
  (void)state;
  FILE *stream = tmpfile();
  assert_non_null(stream);
  moerun__progress_bar bar;
  open_bar(&bar, "auto", stream);
  const moerun__work work = {100, 1000, 1000};
  moerun__progress run = {0};
  double shown[16];
  int count = 0;
  moerun__progress_run(&bar, 100, 0, &work);
  for (int i = 0; i < 12000; i++) {
    time_s = 1000 + 0.1 * i;
    moerun__progress_step(&bar, &run);
    if (written(stream)[0] == '\0') continue;
    assert_true(count < 16);
    shown[count++] = time_s - 1000;
  }
  moerun__progress_close(&bar);
  assert_string_equal(written(stream), "");
  static const double expected[] = {10, 30, 70, 150, 310, 610, 910};
  assert_int_equal(count, 7);
  for (int i = 0; i < count; i++) {
    assert_true(shown[i] > expected[i] - 0.2 && shown[i] < expected[i] + 1);
  }
  (void)fclose(stream);
}

static void a_log_has_whole_lines(void **state) {
  (void)state;
  FILE *stream = tmpfile();
  assert_non_null(stream);
  moerun__progress_bar bar;
  open_bar(&bar, "auto", stream);
  moerun__progress_phase(&bar, "reading prompts");
  assert_string_equal(written(stream), "");
  time_s += 10;
  moerun__progress_phase(&bar, "loading");
  assert_string_equal(written(stream), "moerun: loading\n");
  moerun__progress_bytes(&bar, 1000000, 50000000);
  assert_string_equal(written(stream), "");
  time_s += 20;
  moerun__progress_bytes(&bar, 40000000, 50000000);
  assert_string_equal(written(stream),
                      "moerun: loading 40.0 of 50.0 MB, 2 MB/s, 0:06 left\n");
  moerun__progress_limit(&bar, "solving", 60);
  time_s += 40;
  (void)moerun__progress_clock();
  assert_string_equal(written(stream),
                      "moerun: solving, 40 s of at most 60 s\n");
  moerun__progress_close(&bar);
  (void)fclose(stream);
}

static void a_bar_is_redrawn_within_the_width(void **state) {
  (void)state;
  FILE *stream = tmpfile();
  assert_non_null(stream);
  const moerun__work work = {100, 1000000, 1000000};
  assert_int_equal(setenv("COLUMNS", "30", 1), 0);
  moerun__progress_bar bar;
  open_bar(&bar, "on", stream);
  moerun__progress_phase(&bar, "taking memory");
  assert_string_equal(written(stream), "\rtaking memory\033[K");
  time_s += 0.05;
  moerun__progress_bytes(&bar, 1, 2);
  assert_string_equal(written(stream), ""); /* not 20 times a second */
  time_s += 0.06;
  moerun__progress_run(&bar, 1000, 900, &work);
  moerun__progress_step(&bar, &steps);
  assert_string_equal(written(stream), "\r903/1000, at most 2:50 left\033[K");
  time_s += 0.2;
  assert_int_equal(setenv("COLUMNS", "60", 1), 0); /* as if it were resized */
  moerun__progress_step(&bar, &steps);
  assert_string_equal(written(stream),
                      "\r[#######.] 903/1000, at most 2:50 left, decode 8000/s"
                      "\033[K");
  moerun__progress_hide(&bar);
  assert_string_equal(written(stream), "\r\033[K");
  moerun__progress_close(&bar);
  assert_string_equal(written(stream), ""); /* it is gone already */
  moerun__progress_close(&bar);
  (void)fclose(stream);
}

/* Some terminals wrap when the last column is filled. */
static void the_last_column_stays_free(void **state) {
  (void)state;
  static const struct {
    const char *columns;
    const char *line;
  } widths[] = {{"27", "903/1000"},
                {"28", "903/1000, at most 2:50 left"},
                {"1", "903/1000"},
                {"20000", "[#######.] 903/1000, at most 2:50 left, decode "
                          "8000/s, drop 12.3%"},
                {"wide", "[#######.] 903/1000, at most 2:50 left, decode "
                         "8000/s, drop 12.3%"}};
  const moerun__work work = {100, 1000000, 1000000};
  for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
    FILE *stream = tmpfile();
    char expected[128];
    moerun__progress_bar bar;
    assert_non_null(stream);
    assert_int_equal(setenv("COLUMNS", widths[i].columns, 1), 0);
    open_bar(&bar, "on", stream);
    moerun__progress_run(&bar, 1000, 900, &work);
    moerun__progress_step(&bar, &steps); /* the first one is shown at once */
    (void)snprintf(expected, sizeof expected, "\r%s\033[K", widths[i].line);
    assert_string_equal(written(stream), expected);
    moerun__progress_close(&bar);
    (void)fclose(stream);
  }
}

/* A rate follows what is read now; half a second is too short for one. */
static void bytes_have_a_recent_rate(void **state) {
  (void)state;
  FILE *stream = tmpfile();
  assert_non_null(stream);
  moerun__progress_bar bar;
  assert_int_equal(setenv("COLUMNS", "80", 1), 0);
  open_bar(&bar, "on", stream);
  moerun__progress_phase(&bar, "loading");
  (void)written(stream);
  time_s += 0.25;
  moerun__progress_bytes(&bar, 500000, 1000000);
  assert_string_equal(written(stream),
                      "\r[####....] loading 0.5 of 1.0 MB\033[K");
  time_s += 0.375;
  moerun__progress_bytes(&bar, 600000, 1000000);
  assert_string_equal(written(stream), "\r[####....] loading 0.6 of 1.0 MB, 1 "
                                       "MB/s, 0:01 left\033[K");
  moerun__progress_close(&bar);
  open_bar(&bar, "auto", stream);
  (void)written(stream);
  moerun__progress_phase(&bar, "loading");
  time_s += 100;
  moerun__progress_bytes(&bar, 100000000, 1000000000);
  assert_string_equal(written(stream), "moerun: loading 0.1 of 1.0 GB, 1 MB/s, "
                                       "15:00 left\n");
  time_s += 20;
  moerun__progress_bytes(&bar, 400000000, 1000000000);
  assert_string_equal(written(stream), "moerun: loading 0.4 of 1.0 GB, 6 MB/s, "
                                       "1:42 left\n");
  moerun__progress_close(&bar);
  (void)fclose(stream);
}

static FILE *log_stream;

static void to_stream(moerun__log_level level, const char *line) {
  (void)level;
  (void)fprintf(log_stream, "%s\n", line);
}

static void log_lines_take_the_bar_away(void **state) {
  (void)state;
  log_stream = tmpfile();
  assert_non_null(log_stream);
  moerun__progress_bar bar;
  open_bar(&bar, "on", log_stream);
  moerun__log_set_callback(to_stream);
  moerun__progress_phase(&bar, "x");
  LOG_ROOT(MOERUN_LOG_WARN, "one");
  LOG_ROOT(MOERUN_LOG_WARN, "two");
  moerun__progress_close(&bar);
  LOG_ROOT(MOERUN_LOG_WARN, "three");
  moerun__log_set_callback(NULL);
  assert_string_equal(written(log_stream),
                      "\rx\033[K\r\033[Kone\ntwo\nthree\n");
  (void)fclose(log_stream);
}

static void off_shows_nothing(void **state) {
  (void)state;
  FILE *stream = tmpfile();
  assert_non_null(stream);
  moerun__progress_bar bar;
  open_bar(&bar, "off", stream);
  moerun__progress_phase(&bar, "x");
  time_s += 100;
  moerun__progress_bytes(&bar, 1, 2);
  moerun__progress_wait(&bar);
  moerun__progress_step(&bar, &steps);
  moerun__progress_close(&bar);
  assert_string_equal(written(stream), "");
  (void)fclose(stream);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_bar_shows_time),
      cmocka_unit_test(fields_go_in_order),
      cmocka_unit_test(no_line_is_wider_than_it_may),
      cmocka_unit_test(times_read_like_a_clock),
      cmocka_unit_test(bars_are_full_at_the_end_alone),
      cmocka_unit_test(rates_have_no_digits_that_nobody_reads),
      cmocka_unit_test(lines_come_ever_more_rarely),
      cmocka_unit_test(a_log_has_whole_lines),
      cmocka_unit_test(a_bar_is_redrawn_within_the_width),
      cmocka_unit_test(the_last_column_stays_free),
      cmocka_unit_test(bytes_have_a_recent_rate),
      cmocka_unit_test(log_lines_take_the_bar_away),
      cmocka_unit_test(off_shows_nothing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
