/* Pages that sequences share: random walks of a cache beside a plain model that
 * knows prefixes by number. What a sequence finds in its pages is what it, or
 * somebody with the same tokens, has written there; pages that rest are
 * forgotten in order; nothing is lost. */
#include "runtime/decoder/batch.h"
#include "support/draw.h"
#include "support/scratch.h"

enum { SEATS = 4, DEPTH = 4, PAGES = 9, KINDS = 3, KEYS = 256 };
enum { P = MOERUN_PAGE_POSITIONS, LONGEST = DEPTH * P };

static moerun__kv_cache *cache;

static int set_up(void **state) {
  (void)state;
  static const moerun__kv_sizes sizes = {.num_layers = 1,
                                         .page_floats = 32,
                                         .max_sequences = SEATS,
                                         .max_pages = DEPTH,
                                         .num_pages = PAGES};
  return moerun__kv_create(&cache, &moerun__host, &sizes) == MOERUN_OK ? 0 : -1;
}

static int tear_down(void **state) {
  (void)state;
  moerun__kv_destroy(cache);
  return 0;
}

/* ---- The plain model ----------------------------------------------------- */

/* A sequence of whole pages, each of one of three kinds, is a number: its kinds
 * are the digits to the base 4, from 1 on. */
static struct {
  int known[KEYS], held[KEYS];
  int64_t rested[KEYS]; /* when it was let go last */
  int64_t now;
  int32_t times; /* that all was forgotten */
} plain;

typedef struct seat {
  int32_t token[LONGEST];
  int32_t key[DEPTH + 1]; /* of so many pages */
  int32_t length;         /* in the cache */
  int32_t target;         /* to come to */
  int32_t num_known;      /* -1: never */
  int32_t num_lost;       /* that were known when all was forgotten */
  int32_t lost_at;        /* the how manieth time that was */
} seat;

static seat seats[SEATS];
/* Which prefix the position of a page was written for. */
static int32_t written[PAGES][P];

static int32_t prefix_of(const seat *s, int32_t position) {
  return s->key[position / P + 1];
}

static int32_t num_known(void) {
  int32_t sum = 0;
  for (int32_t k = 1; k < KEYS; k++) {
    sum += plain.known[k];
  }
  return sum;
}

static int32_t num_resting(void) {
  int32_t sum = 0;
  for (int32_t k = 1; k < KEYS; k++) {
    sum += plain.known[k] && plain.held[k] == 0;
  }
  return sum;
}

/* Whether a seat before this one holds the same page, which was known once. */
static int is_lost_twice(int32_t i, int32_t page) {
  for (int32_t j = 0; j < i; j++) {
    if (seats[j].num_lost >= page && seats[j].lost_at == seats[i].lost_at &&
        seats[j].key[page] == seats[i].key[page]) {
      return 1;
    }
  }
  return 0;
}

/* Pages that are held and not known. */
static int32_t num_own(void) {
  int32_t sum = 0;
  for (int32_t i = 0; i < SEATS; i++) {
    const int32_t known = seats[i].num_known < 0 ? 0 : seats[i].num_known;
    sum += moerun__kv_pages(seats[i].length) - known;
    for (int32_t page = 1; page <= seats[i].num_lost; page++) {
      sum -= is_lost_twice(i, page);
    }
  }
  return sum;
}

/* So many new pages are needed. */
static void make_room(int32_t pages) {
  while (PAGES - num_known() - num_own() < pages) {
    int32_t oldest = 0;
    for (int32_t k = 1; k < KEYS; k++) {
      if (!plain.known[k] || plain.held[k] > 0) continue;
      if (oldest == 0 || plain.rested[k] < plain.rested[oldest]) oldest = k;
    }
    assert_int_not_equal(oldest, 0);
    plain.known[oldest] = 0;
  }
}

/* ---- Steps of the walk --------------------------------------------------- */

static void begin_sequence(draw *from, int32_t i) {
  seat *s = &seats[i];
  s->target = draw_int(from, 1, LONGEST);
  for (int32_t page = 0; page < DEPTH; page++) {
    const int32_t kind = draw_int(from, 1, KINDS);
    for (int32_t t = 0; t < P; t++) {
      s->token[page * P + t] = t + 1 < P ? 7 : kind;
    }
    s->key[page + 1] = 4 * s->key[page] + kind;
  }
  int32_t expected = 0;
  while (expected < (s->target - 1) / P && plain.known[s->key[expected + 1]]) {
    plain.held[s->key[++expected]]++;
  }
  const int32_t gained = moerun__kv_reuse(cache, i, s->token, s->target - 1);
  assert_int_equal(gained, expected * P);
  s->length = gained;
  s->num_known = expected;
}

/* Rows are fed, and computed as they should be or not. */
static void feed(draw *from, int32_t i) {
  seat *s = &seats[i];
  const int32_t count = draw_int(from, 1, s->target - s->length);
  const int32_t more =
      moerun__kv_pages(s->length + count) - moerun__kv_pages(s->length);
  const int32_t room = PAGES - num_known() - num_own() + num_resting();
  const moerun_status status = moerun__kv_extend(cache, i, count);
  assert_int_equal(status, more > room ? MOERUN_ERR_OVERFLOW : MOERUN_OK);
  if (status != MOERUN_OK) return;
  make_room(more);
  for (int32_t t = s->length; t < s->length + count; t++) {
    const int32_t page = cache->page[i * DEPTH + t / P];
    assert_int_equal(cache->holders[page], 1);
    assert_false(moerun__prefixes_knows(&cache->prefixes, page));
    written[page][t % P] = prefix_of(s, t);
  }
  if (draw_int(from, 0, 4) == 0) {
    moerun__kv_shrink(cache, i, count);
    return;
  }
  s->length += count;
  moerun__kv_keep(cache, i, s->token);
  while (s->num_known >= 0 && s->num_known < s->length / P) {
    const int32_t key = s->key[++s->num_known];
    plain.known[key] = 1;
    plain.held[key]++;
  }
}

static void end_sequence(int32_t i) {
  seat *s = &seats[i];
  moerun__kv_reset(cache, i);
  for (int32_t page = s->num_known; page > 0; page--) {
    plain.held[s->key[page]]--;
    plain.rested[s->key[page]] = plain.now++;
  }
  s->length = 0;
  s->num_known = 0;
  s->num_lost = 0;
}

static void forget_all(void) {
  moerun__kv_forget(cache);
  memset(plain.known, 0, sizeof plain.known);
  memset(plain.held, 0, sizeof plain.held);
  plain.times++;
  for (int32_t i = 0; i < SEATS; i++) {
    seat *s = &seats[i];
    if (s->num_known > 0) {
      s->num_lost = s->num_known;
      s->lost_at = plain.times;
    }
    s->num_known = s->length > 0 ? -1 : 0;
  }
}

/* ---- What is compared ---------------------------------------------------- */

/* All that goes on from `page`, whose number is `key`. */
static void compare_known(int32_t page, int32_t key) {
  int32_t token[P];
  if (4 * key + KINDS >= KEYS) return;
  for (int32_t kind = 1; kind <= KINDS; kind++) {
    for (int32_t t = 0; t < P; t++) {
      token[t] = t + 1 < P ? 7 : kind;
    }
    const int32_t next = moerun__prefixes_find(&cache->prefixes, page, token);
    assert_int_equal(next != MOERUN_PAGE_NONE, plain.known[4 * key + kind]);
    if (next == MOERUN_PAGE_NONE) continue;
    assert_int_equal(cache->holders[next], plain.held[4 * key + kind]);
    compare_known(next, 4 * key + kind);
  }
}

static void compare(void) {
  compare_known(MOERUN_PAGE_NONE, 0);
  assert_int_equal(cache->num_unused, PAGES - num_known() - num_own());
  assert_int_equal(cache->num_free, cache->num_unused + num_resting());
  for (int32_t i = 0; i < SEATS; i++) {
    assert_int_equal(cache->length[i], seats[i].length);
    for (int32_t t = 0; t < seats[i].length; t++) {
      assert_int_equal(written[cache->page[i * DEPTH + t / P]][t % P],
                       prefix_of(&seats[i], t));
    }
  }
}

static void walks_agree_with_a_plain_model(void **state) {
  (void)state;
  enum { WALKS = 20, STEPS = 400 };
  for (uint64_t seed = 1; seed <= WALKS; seed++) {
    draw from = {seed, 0};
    print_message("seed %llu\n", (unsigned long long)seed);
    for (int32_t i = 0; i < SEATS; i++) {
      end_sequence(i);
    }
    forget_all();
    memset(seats, 0, sizeof seats);
    for (int32_t step = 0; step < STEPS; step++) {
      const int32_t i = draw_int(&from, 0, SEATS - 1);
      if (draw_int(&from, 0, 99) == 0) {
        forget_all();
      } else if (seats[i].target == 0) {
        begin_sequence(&from, i);
      } else if (seats[i].length < seats[i].target &&
                 draw_int(&from, 0, 5) > 0) {
        feed(&from, i);
      } else {
        end_sequence(i);
        seats[i].target = 0;
      }
      compare();
    }
  }
}

/* ---- Two in step --------------------------------------------------------- */

/* Two that fill the same page at once end with one of it. */
static void equal_pages_become_one(void **state) {
  (void)state;
  static int32_t token[2 * P];
  for (int32_t s = 0; s < 2; s++) {
    assert_int_equal(moerun__kv_extend(cache, s, P + 3), MOERUN_OK);
  }
  assert_int_equal(cache->num_free, PAGES - 4);
  assert_true(moerun__kv_meets(cache, 2, 0));
  moerun__kv_keep(cache, 0, token);
  assert_false(moerun__kv_meets(cache, 2, 0));
  moerun__kv_keep(cache, 1, token);
  assert_int_equal(cache->num_free, PAGES - 3);
  assert_int_equal(cache->page[0], cache->page[DEPTH]);
  assert_int_equal(moerun__kv_reuse(cache, 2, token, P - 1), 0);
  assert_int_equal(moerun__kv_reuse(cache, 2, token, 2 * P), P);
  assert_int_equal(cache->holders[cache->page[0]], 3);
  assert_true(moerun__kv_meets(cache, 2, 1));
  for (int32_t s = 0; s < 3; s++) {
    moerun__kv_reset(cache, s);
  }
  assert_int_equal(cache->num_free, PAGES);
  assert_int_equal(cache->num_unused, PAGES - 1);
  /* The first token tells. */
  token[0] = 1;
  assert_int_equal(moerun__kv_reuse(cache, 0, token, 2 * P), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(walks_agree_with_a_plain_model, set_up,
                                      tear_down),
      cmocka_unit_test_setup_teardown(equal_pages_become_one, set_up,
                                      tear_down),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
