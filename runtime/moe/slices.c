/* Shares are whole panels, so a slice of a packed weight is a stretch of its
 * bytes: it is sent as it lies and multiplied as it comes. */
#include "runtime/moe/slices.h"

#include "runtime/base/number.h"
#include "runtime/plan/plan.h"

#include <math.h>
#include <string.h>

/* ---- Shares -------------------------------------------------------------- */

static int32_t panels_of(int32_t outputs) {
  return (outputs + MOERUN_PANEL - 1) / MOERUN_PANEL;
}

moerun_status moerun__slices_check(const moerun__model_config *config) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(config->expert_width % MOERUN_PANEL == 0,
                 MOERUN_ERR_UNSUPPORTED,
                 "balance sliced and memory for slices: expected an expert "
                 "width that is a multiple of %d, found %d",
                 MOERUN_PANEL, config->expert_width);
done:
  return status;
}

static void cut(int32_t *first, int64_t *share, int32_t panels,
                const int32_t *speed, int32_t num_ranks) {
  moerun__plan_shares(share, panels, speed, num_ranks);
  first[0] = 0;
  for (int32_t r = 0; r < num_ranks; r++) {
    first[r + 1] = moerun__to_int(first[r] + share[r]);
  }
}

/* The outputs of a rank's share where all ranks are equally fast. */
static int32_t even_share(int32_t outputs, int32_t num_ranks, int32_t rank) {
  const int64_t panels =
      moerun__plan_even_share(panels_of(outputs), num_ranks, rank);
  return moerun__to_int(panels * MOERUN_PANEL);
}

/* Adds the slices of one layer's experts to *bytes if they have room. */
static int add_layer(size_t *bytes, const moerun__model_config *config,
                     const moerun__expert_shape *slice, int64_t room_bytes) {
  const size_t sum =
      *bytes + (size_t)config->num_experts * moerun__expert_bytes(slice);
  if (room_bytes >= 0 && sum > (size_t)room_bytes) return 0;
  *bytes = sum;
  return 1;
}

size_t moerun__slices_bytes(const moerun__model_config *config,
                            const moerun__expert_shape *whole,
                            int32_t num_ranks, int32_t rank,
                            int64_t room_bytes) {
  if (room_bytes == 0 || num_ranks == 1) return 0;
  const moerun__expert_shape slice = moerun__expert_slice(
      whole, even_share(config->expert_width, num_ranks, rank),
      even_share(config->hidden_width, num_ranks, rank));
  size_t bytes = 0;
  for (int32_t l = 0; l < config->num_moe_layers; l++) {
    if (!add_layer(&bytes, config, &slice, room_bytes)) break;
  }
  return moerun__alloc_bytes(bytes, 1);
}

/* All others being as slow as shares follow. */
int32_t moerun__slices_most_outputs(const moerun__model_config *config,
                                    int32_t num_ranks) {
  const int32_t panels = panels_of(config->hidden_width);
  const int32_t most = panels * 2 / (num_ranks + 1) + 1;
  return (most < panels ? most : panels) * MOERUN_PANEL;
}

/* ---- Memory -------------------------------------------------------------- */

int moerun__slices_are_on(const moerun__slices *slices) {
  return slices->room_bytes != 0 && slices->model->comm->size > 1;
}

void moerun__slices_init(moerun__slices *slices, const moerun_model *model,
                         int64_t room_bytes) {
  *slices = (moerun__slices){.model = model, .room_bytes = room_bytes};
}

static void lay_out(void *self, moerun__arenas *arenas) {
  moerun__slices *slices = self;
  moerun__arena *arena = &arenas->host;
  const moerun__model_config *config = &slices->model->config;
  const size_t R = (size_t)slices->model->comm->size;
  const size_t experts =
      (size_t)config->num_moe_layers * (size_t)config->num_experts;
  const size_t ints = sizeof(int32_t);
  slices->shares.hidden_width = config->hidden_width;
  slices->shares.speed = moerun__arena_take(arena, R, ints);
  slices->shares.h_panel = moerun__arena_take(arena, R + 1, ints);
  slices->shares.y_panel = moerun__arena_take(arena, R + 1, ints);
  slices->share = moerun__arena_take(arena, R, sizeof *slices->share);
  const moerun__news news = {.width = 1};
  slices->words = moerun__arena_take(arena, R, ints);
  slices->scratch =
      moerun__arena_take(arena, moerun__news_scratch((int32_t)R, &news), ints);
  slices->shape = moerun__arena_take(arena, (size_t)config->num_moe_layers,
                                     sizeof *slices->shape);
  slices->expert = moerun__arena_take(arena, experts, sizeof *slices->expert);
}

static int32_t num_transfers(const void *self) {
  (void)self;
  return 2 * MOERUN_EXPERT_MOST_BANDS;
}

static moerun_status create_transfers(void *self) {
  moerun_status status = MOERUN_OK;
  moerun__slices *slices = self;
  moerun_comm *comm = slices->model->comm;
  for (int i = 0; i < MOERUN_EXPERT_MOST_BANDS; i++) {
    MOERUN_TRY(comm->ops->transfer_create(&slices->out[i], comm, 0,
                                          MOERUN_MEMORY_WEIGHTS));
    MOERUN_TRY(comm->ops->transfer_create(&slices->in[i], comm, 0,
                                          MOERUN_MEMORY_WEIGHTS));
  }
done:
  return status;
}

static moerun_status adopt_device(void *self, const moerun__device *device) {
  ((moerun__slices *)self)->device = device;
  return MOERUN_OK;
}

static void close(void *self) {
  moerun__slices *slices = self;
  for (int i = 0; i < MOERUN_EXPERT_MOST_BANDS; i++) {
    slices->model->comm->ops->transfer_destroy(slices->out[i]);
    slices->model->comm->ops->transfer_destroy(slices->in[i]);
  }
  if (slices->room != NULL) slices->device->unlock(slices->room);
  moerun__free(slices->room);
}

static size_t open_bytes(const void *self, const moerun__expert_shape *whole) {
  const moerun__slices *slices = self;
  const moerun_comm *comm = slices->model->comm;
  return moerun__slices_bytes(&slices->model->config, whole, comm->size,
                              comm->rank, slices->room_bytes);
}

/* ---- Opening ------------------------------------------------------------- */

/* Shares follow a factor of 2 at most: a slower rank is better left out of the
 * step altogether, which is what balancing whole experts does. */
static moerun_status learn_speeds(moerun__slices *slices, double seconds) {
  moerun_status status = MOERUN_OK;
  moerun_comm *comm = slices->model->comm;
  int32_t *words = slices->words;
  const int32_t own =
      seconds > 0 ? (int32_t)lround(-log2(seconds) * MOERUN_SPEED_OCTAVE) : 0;
  int32_t fastest = INT32_MIN;
  int known = 1;
  words[comm->rank] = seconds > 0 ? own : INT32_MIN;
  MOERUN_TRY(moerun__comm_share_words(comm, words, 1, slices->scratch));
  for (int32_t r = 0; r < comm->size; r++) {
    known = known && words[r] != INT32_MIN;
    if (words[r] > fastest) fastest = words[r];
  }
  for (int32_t r = 0; r < comm->size; r++) {
    int32_t behind = known ? moerun__plan_behind(fastest, words[r]) : 0;
    if (behind > MOERUN_SPEED_OCTAVE) behind = MOERUN_SPEED_OCTAVE;
    slices->shares.speed[r] = moerun__plan_speed(behind);
  }
done:
  return status;
}

/* [collective] Counts the layers that have room on all ranks and their bytes
 * here, and shapes this rank's slices of each. */
static moerun_status shape_layers(moerun__slices *slices, size_t *bytes) {
  moerun_status status = MOERUN_OK;
  const moerun_model *model = slices->model;
  const moerun__model_config *config = &model->config;
  const int32_t h = moerun__slice_h(&slices->shares, model->comm->rank);
  const int32_t y = moerun__slice_y(&slices->shares, model->comm->rank);
  *bytes = 0;
  for (int32_t l = 0; l < config->num_moe_layers; l++) {
    moerun__expert_shape whole;
    MOERUN_TRY(moerun__model_expert_shape(&whole, model, l));
    slices->shape[l] = moerun__expert_slice(&whole, h, y);
    int64_t fits =
        add_layer(bytes, config, &slices->shape[l], slices->room_bytes);
    MOERUN_TRY(model->comm->ops->minimum(model->comm, &fits));
    if (!fits) break;
    slices->num_layers = l + 1;
  }
done:
  return status;
}

/* Room for the weights that kernels of the device may use. */
static moerun_status take_room(moerun__slices *slices, size_t bytes) {
  moerun_status status = MOERUN_OK;
  char *room = NULL;
  MOERUN_TRY(moerun__alloc_streamed(&room, bytes, 1));
  MOERUN_TRY(slices->device->lock(room, bytes));
  slices->room = room;
  room = NULL;
done:
  moerun__free(room);
  return status;
}

static void place_slices(moerun__slices *slices) {
  const int32_t E = slices->model->config.num_experts;
  char *place = slices->room;
  for (int32_t i = 0; i < slices->num_layers * E; i++) {
    const moerun__expert_shape *shape = &slices->shape[i / E];
    slices->expert[i] = moerun__expert_at(shape, place);
    place += moerun__expert_bytes(shape);
  }
}

/* A band of a whole expert's panels, and where this rank's share of it lies. */
typedef struct band {
  const char *panels; /* NULL where the expert is not hosted */
  char *share;
  size_t panel_bytes;
  const int32_t *first; /* [R + 1] */
} band;

/* Where the band begins in an expert of that shape. */
static char *band_in(const moerun__expert *expert,
                     const moerun__expert_shape *shape, int which,
                     size_t panel_bytes) {
  const moerun__expert_band at = moerun__expert_band_at(shape, which);
  return (char *)moerun__expert_weight(expert, at.piece)->panels +
         (size_t)(at.first / MOERUN_PANEL) * panel_bytes;
}

/* Band number `which` of expert e. */
static band band_of(const moerun__slices *slices, int32_t l, int32_t e,
                    int which, int32_t slot) {
  const moerun__layer *layer = moerun__model_layer(slices->model, l);
  const moerun__model_config *config = &slices->model->config;
  const moerun__expert *slice =
      &slices->expert[(size_t)l * (size_t)config->num_experts + (size_t)e];
  const moerun__expert_shape *shape = &slices->shape[l];
  const moerun__expert_band at = moerun__expert_band_at(shape, which);
  const moerun__weight *share = moerun__expert_weight(slice, at.piece);
  const size_t panel_bytes =
      moerun__weight_bytes(share->dtype, MOERUN_PANEL, share->num_inputs);
  band out = {.share = band_in(slice, shape, which, panel_bytes),
              .panel_bytes = panel_bytes,
              .first = at.piece == MOERUN_PIECE_DOWN ? slices->shares.y_panel
                                                     : slices->shares.h_panel};
  if (slot < 0) return out;
  const moerun__expert_shape whole =
      moerun__expert_slice(shape, config->expert_width, config->hidden_width);
  out.panels = band_in(moerun__own_at(layer, slot), &whole, which, panel_bytes);
  return out;
}

static moerun_status send(moerun__slices *slices, const band *of, int which) {
  moerun_comm *comm = slices->model->comm;
  const moerun__row_list list = {(void *)of->panels, of->panel_bytes,
                                 of->first,          0,
                                 comm->size,         MOERUN_MEMORY_WEIGHTS};
  const size_t first = (size_t)of->first[comm->rank];
  const size_t count = (size_t)of->first[comm->rank + 1] - first;
  memcpy(of->share, of->panels + first * of->panel_bytes,
         count * of->panel_bytes);
  return comm->ops->send_begin(slices->out[which], MOERUN_TAG_EXPERTS + which,
                               &list);
}

static moerun_status receive(moerun__slices *slices, const band *of, int which,
                             int32_t from) {
  moerun_comm *comm = slices->model->comm;
  int32_t *offset = slices->offset[which];
  offset[0] = 0;
  offset[1] = of->first[comm->rank + 1] - of->first[comm->rank];
  const moerun__row_list list = {of->share, of->panel_bytes,      offset, from,
                                 from + 1,  MOERUN_MEMORY_WEIGHTS};
  return comm->ops->receive_begin(slices->in[which], MOERUN_TAG_EXPERTS + which,
                                  &list);
}

/* [collective] Every rank gets its share of one expert from the first rank that
 * hosts it. */
static moerun_status hand_out(moerun__slices *slices, int32_t l, int32_t e) {
  moerun_status status = MOERUN_OK;
  const moerun_placement *placement = slices->model->placement;
  moerun_comm *comm = slices->model->comm;
  const int32_t replica =
      placement->replica_offset[(size_t)l * (size_t)placement->num_experts +
                                (size_t)e];
  const int32_t from = placement->rank_of[replica];
  const int is_own = from == comm->rank;
  const int bands = moerun__expert_num_bands(&slices->shape[l]);
  for (int which = 0; which < bands; which++) {
    const band of =
        band_of(slices, l, e, which, is_own ? placement->slot_of[replica] : -1);
    MOERUN_TRY(is_own ? send(slices, &of, which)
                      : receive(slices, &of, which, from));
  }
  for (int which = 0; which < bands; which++) {
    MOERUN_TRY(
        comm->ops->wait(is_own ? slices->out[which] : slices->in[which]));
  }
done:
  return status;
}

static moerun_status open(void *self, double row_seconds) {
  moerun_status status = MOERUN_OK;
  moerun__slices *slices = self;
  const moerun__model_config *config = &slices->model->config;
  const int32_t R = slices->model->comm->size;
  size_t bytes = 0;
  MOERUN_TRY(learn_speeds(slices, row_seconds));
  cut(slices->shares.h_panel, slices->share, panels_of(config->expert_width),
      slices->shares.speed, R);
  cut(slices->shares.y_panel, slices->share, panels_of(config->hidden_width),
      slices->shares.speed, R);
  MOERUN_TRY(shape_layers(slices, &bytes));
  MOERUN_TRY(moerun__comm_agree(slices->model->comm, take_room(slices, bytes)));
  place_slices(slices);
  for (int32_t l = 0; l < slices->num_layers; l++) {
    for (int32_t e = 0; e < config->num_experts; e++) {
      MOERUN_TRY(hand_out(slices, l, e));
    }
  }
done:
  return status;
}

/* ---- The tier ------------------------------------------------------------ */

static moerun__presence get(const void *self, const moerun__expert **out,
                            const moerun__layer *layer, int32_t slot) {
  const moerun__slices *slices = self;
  const int32_t E = slices->model->config.num_experts;
  const int32_t expert = slot - MOERUN_FIRST_SLICE;
  if (expert < 0 || expert >= E || layer->moe_layer >= slices->num_layers) {
    return MOERUN_ABSENT;
  }
  *out = &slices->expert[(size_t)layer->moe_layer * (size_t)E + (size_t)expert];
  return MOERUN_HERE;
}

const moerun__tier_ops moerun__slices_ops = {
    .name = "slices",
    .lay_out = lay_out,
    .adopt_device = adopt_device,
    .num_transfers = num_transfers,
    .create_transfers = create_transfers,
    .open = open,
    .open_bytes = open_bytes,
    .close = close,
    .get = get,
};
