/* With the scope global all ranks first add up what each wants of each expert,
 * then hand round the candidates of those that are wanted too much, gathered by
 * rank 0: only then does a rank know which of its own go. It is the price of
 * that scope. */
#include "runtime/moe/gate.h"

#include "runtime/base/finite.h"
#include "runtime/base/number.h"

#include <string.h>

static int has_capacity(const moerun__gate_options *options) {
  return options->capacity.gamma > 0;
}

static int is_global(const moerun__gate *gate) {
  return has_capacity(&gate->options) &&
         gate->options.capacity.scope == MOERUN_SCOPE_GLOBAL;
}

static int has_width(const moerun__gate_options *options) {
  return options->width.most > 0 || options->width.top_p > 0 ||
         options->limits.count > 0;
}

static moerun__weight_rule rule_of(const moerun__gate_options *options) {
  if (has_capacity(options)) return options->capacity.rule;
  return has_width(options) ? options->width.rule : MOERUN_WEIGHT_PRE;
}

static int has_scores(const moerun__gate_options *options) {
  return has_capacity(options) ||
         (has_width(options) && options->width.rule == MOERUN_WEIGHT_NONE);
}

int32_t moerun__gate_width(const moerun__gate_options *options,
                           const moerun_model *model, int32_t max_slots) {
  const int32_t K = model->config.experts_per_token;
  return has_capacity(options)
             ? moerun__capacity_width(&options->capacity, K, max_slots)
             : K;
}

moerun_status moerun__gate_check(const moerun__gate_options *options,
                                 const moerun_model *model, int32_t max_slots) {
  moerun_status status = MOERUN_OK;
  const moerun__capacity_options *capacity = &options->capacity;
  MOERUN_TRY(moerun__width_limits_check(&options->limits,
                                        model->config.num_moe_layers));
  if (!has_capacity(options)) goto done;
  MOERUN_TRY(moerun__capacity_check(capacity));
  MOERUN_REQUIRE(capacity->scope != MOERUN_SCOPE_REQUEST ||
                     capacity->expansion == MOERUN_EXPANSION_OFF,
                 MOERUN_ERR_INVALID,
                 "capacity: expected no expansion with the scope request: the "
                 "experts of a rank depend on the placement");
  MOERUN_REQUIRE(
      moerun__gate_width(options, model, max_slots) <= MOERUN_MAX_TERMS,
      MOERUN_ERR_UNSUPPORTED,
      "capacity: expansion: expected at most %d experts of a rank "
      "and of a token together, found %d",
      MOERUN_MAX_TERMS, moerun__gate_width(options, model, max_slots));
done:
  return status;
}

int moerun__gate_is_lossy(const moerun__gate_options *options) {
  return has_capacity(options) || has_width(options);
}

int32_t moerun__gate_window(const moerun__gate_options *options) {
  const int by_request =
      has_capacity(options) && options->capacity.scope == MOERUN_SCOPE_REQUEST;
  return by_request ? options->capacity.window : 1;
}

/* ---- Buffers ------------------------------------------------------------- */

/* Sums of E + 1 words, or a word of each rank. */
static void lay_out_words(moerun__gate *gate, moerun__arena *arena) {
  const int32_t R = gate->model->comm->size;
  const int32_t sums = gate->model->config.num_experts + 1;
  const moerun__news news = {.num_sums = sums, .width = 1};
  const size_t words = (size_t)(sums > R ? sums : R);
  if (!is_global(gate)) return;
  gate->words = moerun__arena_take(arena, words, sizeof *gate->words);
  gate->scratch = moerun__arena_take(arena, moerun__news_scratch(R, &news),
                                     sizeof *gate->scratch);
}

static void lay_out_capacity(moerun__gate *gate, moerun__arena *arena,
                             int32_t max_slots) {
  const moerun__model_config *config = &gate->model->config;
  const size_t T = (size_t)gate->max_tokens;
  const size_t E = (size_t)config->num_experts;
  const size_t R = (size_t)gate->model->comm->size;
  const size_t ranks = is_global(gate) ? R : 0;
  moerun__capacity *capacity = &gate->capacity;
  gate->row = moerun__arena_take(arena, T, sizeof *gate->row);
  gate->zero = moerun__arena_take(arena, T, sizeof *gate->zero);
  gate->extra =
      moerun__arena_take(arena, (size_t)max_slots, sizeof *gate->extra);
  gate->rank_of_expert =
      moerun__arena_take(arena, E, sizeof *gate->rank_of_expert);
  lay_out_words(gate, arena);
  gate->total = moerun__arena_take(arena, E + 1, sizeof *gate->total);
  const moerun__capacity_sizes sizes = {
      .num_experts = config->num_experts,
      .num_choices = gate->choices,
      .experts_per_token = config->experts_per_token,
      .width = gate->width,
      .num_ranks = (int32_t)R,
      .max_tokens = gate->max_tokens,
      .max_records = (int64_t)(ranks * T) * gate->width};
  moerun__capacity_lay_out(capacity, arena, &gate->options.capacity, &sizes);
  gate->records = moerun__arena_take(arena, (size_t)capacity->sizes.max_records,
                                     sizeof *gate->records);
}

void moerun__gate_init(moerun__gate *gate, const moerun_model *model,
                       const moerun__kernels *kernels, moerun__queue *queue,
                       const moerun__gate_options *options,
                       int32_t max_tokens) {
  *gate = (moerun__gate){.model = model,
                         .kernels = kernels,
                         .queue = queue,
                         .options = *options,
                         .max_tokens = max_tokens,
                         .choices = moerun__config_choices(&model->config)};
  moerun__home_init(&gate->home, &model->config, kernels, queue);
}

void moerun__gate_lay_out(moerun__gate *gate, moerun__arena *arena,
                          int32_t max_slots) {
  const moerun__model_config *config = &gate->model->config;
  const size_t T = (size_t)gate->max_tokens;
  const size_t K = (size_t)config->experts_per_token;
  gate->width = moerun__gate_width(&gate->options, gate->model, max_slots);
  const size_t width = (size_t)gate->width;
  gate->ids = moerun__arena_take(arena, T * width, sizeof *gate->ids);
  gate->weight = moerun__arena_take(arena, T * width, sizeof *gate->weight);
  gate->chosen = moerun__gate_is_lossy(&gate->options)
                     ? moerun__arena_take(arena, T * K, sizeof *gate->chosen)
                     : gate->ids;
  const size_t choices = (size_t)gate->choices;
  gate->of_layer = moerun__arena_take(arena, (size_t)config->num_moe_layers,
                                      sizeof *gate->of_layer);
  moerun__home_lay_out(&gate->home, arena, gate->max_tokens);
  gate->logits = moerun__arena_take(arena, T * choices, sizeof *gate->logits);
  gate->unsound = moerun__arena_take(arena, T, sizeof *gate->unsound);
  if (has_scores(&gate->options)) {
    gate->scores = moerun__arena_take(arena, T * choices, sizeof *gate->scores);
  }
  if (has_capacity(&gate->options)) lay_out_capacity(gate, arena, max_slots);
}

/* ---- Capacity ------------------------------------------------------------ */

static moerun__capacity_rows rows_of(moerun__gate *gate,
                                     const moerun__layer_call *call) {
  const moerun_placement *placement = gate->model->placement;
  const int32_t E = placement->num_experts;
  const moerun__row_tags *tags = &call->tags;
  const int32_t T = moerun__call_rows(call);
  const int32_t layer = call->layer->moe_layer;
  const size_t first = (size_t)layer * (size_t)E;
  const int expands = gate->options.capacity.expansion != MOERUN_EXPANSION_OFF;
  for (int32_t t = 0; t < T; t++) {
    gate->row[t] = t;
    gate->zero[t] = 0;
  }
  for (int32_t e = 0; e < E; e++) {
    gate->rank_of_expert[e] =
        placement->rank_of[placement->replica_offset[first + (size_t)e]];
  }
  return (moerun__capacity_rows){
      .T = T,
      .layer = layer,
      .ids = gate->ids,
      .weight = gate->weight,
      .scores = gate->scores,
      .request = tags->request != NULL ? tags->request : gate->row,
      .position = tags->position != NULL ? tags->position : gate->zero,
      .priority = tags->priority,
      .decoded = tags->decoded,
      .extra = gate->extra,
      .num_extra = expands ? moerun__placement_experts(placement, layer,
                                                       gate->model->comm->rank,
                                                       gate->extra)
                           : 0,
      .rank_of_expert = gate->rank_of_expert};
}

/* total[count] = the sum over ranks of mine[count]. */
static moerun_status add_up(moerun__gate *gate, const int64_t *mine,
                            int32_t count) {
  moerun_status status = MOERUN_OK;
  for (int32_t i = 0; i < count; i++) {
    gate->words[i] = moerun__to_int(mine[i]);
  }
  MOERUN_TRY(
      moerun__comm_sum(gate->model->comm, gate->words, count, gate->scratch));
  for (int32_t i = 0; i < count; i++) {
    gate->total[i] = gate->words[i];
  }
done:
  return status;
}

/* records[*count] of all ranks everywhere, by rank; this one's begin at
 * *first_own. Rank 0 gathers blocks of equal size, moves them together and
 * tells the others. */
static moerun_status gather_records(moerun__gate *gate, int64_t *count,
                                    int64_t *first_own) {
  moerun_status status = MOERUN_OK;
  moerun_comm *comm = gate->model->comm;
  const moerun__comm_ops *ops = comm->ops;
  int32_t *in = gate->words;
  int32_t most = 0;
  const size_t bytes = sizeof *gate->records;
  in[comm->rank] = gate->capacity.num_records;
  MOERUN_TRY(moerun__comm_share_words(comm, in, 1, gate->scratch));
  *count = 0;
  for (int32_t r = 0; r < comm->size; r++) {
    if (r == comm->rank) *first_own = *count;
    *count += in[r];
    if (in[r] > most) most = in[r];
  }
  MOERUN_TRY(ops->gather(comm, comm->rank == 0 ? gate->records : NULL,
                         gate->capacity.records, (size_t)most * bytes));
  int64_t at = 0;
  for (int32_t r = 0; comm->rank == 0 && r < comm->size; r++) {
    memmove(gate->records + at, gate->records + (size_t)r * (size_t)most,
            (size_t)in[r] * bytes);
    at += in[r];
  }
  MOERUN_TRY(ops->broadcast(comm, gate->records, (size_t)*count * bytes));
done:
  return status;
}

/* One round's candidates of groups that are wanted too much. */
static moerun_status cut_round(moerun__gate *gate) {
  moerun_status status = MOERUN_OK;
  int64_t count = 0;
  int64_t first_own = 0;
  MOERUN_TRY(gather_records(gate, &count, &first_own));
  MOERUN_TRY(
      moerun__capacity_cut(&gate->capacity, gate->records, count, first_own));
done:
  return status;
}

static moerun_status cut_globally(moerun__gate *gate,
                                  const moerun__capacity_rows *rows) {
  moerun_status status = MOERUN_OK;
  moerun__capacity *capacity = &gate->capacity;
  moerun__capacity_offer(capacity, rows);
  do {
    MOERUN_TRY(add_up(gate, capacity->demand, capacity->num_groups + 1));
    moerun__capacity_collect(capacity, rows, gate->total);
    if (capacity->num_over > 0) MOERUN_TRY(cut_round(gate));
  } while (moerun__capacity_goes_on(capacity, rows));
  moerun__capacity_finish(capacity, rows, &gate->now.capacity);
done:
  return status;
}

static moerun_status apply_capacity(moerun__gate *gate,
                                    const moerun__layer_call *call) {
  const moerun__capacity_rows rows = rows_of(gate, call);
  moerun__capacity_spread(gate->ids, gate->weight, rows.T,
                          gate->model->config.experts_per_token, gate->width);
  if (is_global(gate)) return cut_globally(gate, &rows);
  moerun__capacity_apply(&gate->capacity, &rows, &gate->now.capacity);
  return MOERUN_OK;
}

/* ---- Counts -------------------------------------------------------------- */

void moerun__gate_counts_add(moerun__gate_counts *sum,
                             const moerun__gate_counts *part) {
  moerun__capacity_counts *c = &sum->capacity;
  const moerun__capacity_counts *p = &part->capacity;
  c->tokens += p->tokens;
  c->candidates += p->candidates;
  c->offered += p->offered;
  c->dropped += p->dropped;
  c->added += p->added;
  c->lost_all += p->lost_all;
  c->over += p->over;
  c->not_numbers += p->not_numbers;
  c->mass += p->mass;
  c->mass_dropped += p->mass_dropped;
  c->mass_added += p->mass_added;
  sum->width.terms += part->width.terms;
  sum->width.removed += part->width.removed;
  sum->width.mass += part->width.mass;
  sum->width.mass_lost += part->width.mass_lost;
  sum->home.rows += part->home.rows;
  sum->home.terms += part->home.terms;
  sum->home.rows_alone += part->home.rows_alone;
  for (int kind = 0; kind < MOERUN_HOME_KINDS; kind++) {
    sum->home.chosen[kind] += part->home.chosen[kind];
  }
}

void moerun__gate_counts_clear(moerun__gate *gate) {
  memset(&gate->counts, 0, sizeof gate->counts);
  memset(gate->of_layer, 0,
         (size_t)gate->model->config.num_moe_layers * sizeof *gate->of_layer);
}

/* ---- The parts of a choice ----------------------------------------------- */

/* Takes out what is computed at home. */
static moerun_status take_home(moerun__gate *gate,
                               const moerun__layer_call *call, float *scratch) {
  const moerun__gate_options *options = &gate->options;
  const int raw = rule_of(options) == MOERUN_WEIGHT_NONE;
  const int all = has_width(options) || options->capacity.decode;
  const moerun__home_choices choices = {.T = moerun__call_rows(call),
                                        .x = call->x,
                                        .ids = gate->ids,
                                        .weight = gate->weight,
                                        .scores = raw ? gate->scores : NULL,
                                        .as_given =
                                            all ? NULL : call->tags.decoded};
  return moerun__home_take(&gate->home, call->layer, &choices, scratch,
                           &gate->now.home);
}

static void cut_width(moerun__gate *gate, const moerun__layer *layer,
                      int32_t T) {
  const moerun__model_config *config = &gate->model->config;
  moerun__width width = gate->options.width;
  if (gate->options.limits.count > 0) {
    width.most = moerun__width_limit(&gate->options.limits, layer->moe_layer);
  }
  if (width.most == 0) width.most = config->experts_per_token;
  if (!(width.top_p > 0)) width.top_p = 1;
  const moerun__width_rows rows = {.T = T,
                                   .K = config->experts_per_token,
                                   .stride = config->experts_per_token,
                                   .num_choices = gate->choices,
                                   .ids = gate->ids,
                                   .weight = gate->weight,
                                   .scores = gate->scores};
  moerun__width_cut(&rows, &width, &gate->now.width);
}

/* What weights are made of, without the bias of the choice. */
static void keep_scores(moerun__gate *gate, int32_t T) {
  const moerun__model_config *config = &gate->model->config;
  const int32_t choices = gate->choices;
  const size_t width = (size_t)choices;
  if (config->gate_rule.score == MOERUN_SCORE_SIGMOID) {
    gate->kernels->sigmoid(gate->queue, gate->scores, gate->logits,
                           (size_t)T * width);
    return;
  }
  for (size_t t = 0; t < (size_t)T; t++) {
    gate->kernels->softmax(gate->scores + t * width, gate->logits + t * width,
                           choices, 1.0F);
  }
}

/* A gate puts a score that is NaN behind all others: an expert that is never
 * chosen, and nothing that follows would show it. */
static void note_sound(moerun__gate *gate, int32_t T, size_t choices) {
  for (size_t t = 0; t < (size_t)T; t++) {
    gate->unsound[t] = !moerun__all_sound(gate->logits + t * choices, choices);
  }
}

/* The choice of the model's gate; the host looks at the logits before the
 * kernel writes over them. */
static moerun_status ask_gate(moerun__gate *gate,
                              const moerun__layer_call *call, float *scratch) {
  moerun_status status = MOERUN_OK;
  const moerun__model_config *config = &gate->model->config;
  const moerun__layer *layer = call->layer;
  const int32_t T = moerun__call_rows(call);
  const int32_t choices = gate->choices;
  const size_t width = (size_t)choices;
  gate->kernels->linear(gate->queue, gate->logits, width, call->x,
                        (size_t)config->hidden_width, T, &layer->gate, scratch);
  MOERUN_TRY(gate->queue->device->wait(gate->queue));
  note_sound(gate, T, width);
  if (has_scores(&gate->options)) keep_scores(gate, T);
  gate->kernels->gate(
      gate->queue,
      &(moerun__choice){gate->ids, gate->weight, config->experts_per_token},
      gate->logits, T, choices, &config->gate_rule, layer->choice_bias);
  MOERUN_TRY(gate->queue->device->wait(gate->queue));
done:
  return status;
}

/* ---- A caller's choice --------------------------------------------------- */

moerun_status moerun__given_choice_check(const moerun__gate *gate, int32_t T,
                                         const moerun__given_choice *given) {
  moerun_status status = MOERUN_OK;
  const moerun__model_config *config = &gate->model->config;
  const int32_t K = config->experts_per_token;
  const int32_t choices = gate->choices;
  MOERUN_REQUIRE(!moerun__gate_is_lossy(&gate->options), MOERUN_ERR_UNSUPPORTED,
                 "expected experts that the gate chooses, because the session "
                 "takes some of them away, found a caller's own");
  MOERUN_REQUIRE(T == 0 || (given->ids != NULL && given->weight != NULL),
                 MOERUN_ERR_INVALID, "ids or weights is NULL");
  for (int32_t t = 0; t < T; t++) {
    const int32_t *ids = given->ids + (size_t)t * (size_t)K;
    const float *weight = given->weight + (size_t)t * (size_t)K;
    for (int32_t i = 0; i < K; i++) {
      MOERUN_REQUIRE(ids[i] >= -1 && ids[i] < choices, MOERUN_ERR_INVALID,
                     "row %d: expected experts -1 to %d, found %d", t,
                     choices - 1, ids[i]);
      MOERUN_REQUIRE(ids[i] < 0 || weight[i] - weight[i] == 0.0F,
                     MOERUN_ERR_INVALID,
                     "row %d: expected a finite weight of expert %d, found %g",
                     t, ids[i], (double)weight[i]);
      for (int32_t j = 0; j < i && ids[i] >= 0; j++) {
        MOERUN_REQUIRE(ids[i] != ids[j], MOERUN_ERR_INVALID,
                       "row %d: expected distinct experts, found %d twice", t,
                       ids[i]);
      }
    }
  }
done:
  return status;
}

static void adopt(moerun__gate *gate, int32_t T,
                  const moerun__given_choice *given) {
  const size_t count =
      (size_t)T * (size_t)gate->model->config.experts_per_token;
  memset(gate->unsound, 0, (size_t)T);
  if (count == 0) return;
  memcpy(gate->ids, given->ids, count * sizeof *gate->ids);
  memcpy(gate->weight, given->weight, count * sizeof *gate->weight);
}

/* ---- The whole ----------------------------------------------------------- */

moerun_status moerun__gate_choose(moerun__gate *gate,
                                  const moerun__layer_call *call,
                                  float *scratch) {
  moerun_status status = MOERUN_OK;
  const size_t K = (size_t)gate->model->config.experts_per_token;
  const moerun__layer *layer = call->layer;
  const int32_t T = moerun__call_rows(call);
  gate->now = (moerun__gate_counts){0};
  if (call->given != NULL) {
    adopt(gate, T, call->given);
  } else {
    MOERUN_TRY(ask_gate(gate, call, scratch));
  }
  if (gate->home.is_used) MOERUN_TRY(take_home(gate, call, scratch));
  if (gate->chosen != gate->ids) {
    memcpy(gate->chosen, gate->ids, (size_t)T * K * sizeof *gate->ids);
  }
  if (has_width(&gate->options)) cut_width(gate, layer, T);
  if (has_capacity(&gate->options)) {
    MOERUN_TRY(apply_capacity(gate, call));
  }
  moerun__gate_counts_add(&gate->counts, &gate->now);
  moerun__gate_counts_add(&gate->of_layer[layer->moe_layer], &gate->now);
done:
  return status;
}
