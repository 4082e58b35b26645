/* XXH3 (xxHash, Y. Collet) of each range, seeded by the tensor's name and the
 * place in it. It runs at memory speed, where FNV (runtime/base/digest.h) would
 * take a step a byte; it is fastest where the library chooses vector
 * instructions by the processor (MOERUN_XXHASH_DISPATCH; the values are the
 * same). The sum needs no order, so each rank adds what it reads
 * when it reads it.
 *
 * An expert is read by the ranks that hold it and by no other. Those of one
 * expert compare all of it after each layer: its results would depend on which
 * replica a row goes to. The least and the greatest digest of all ranks are
 * told, so that every rank knows the verdict. Other weights of experts that one
 * rank holds would pass unseen where only sums are compared. That is why all
 * ranks also read the start of every expert's tensors: training and merging
 * change all elements of a tensor, and a copy of an older checkpoint differs
 * there. A file of which single elements were changed further back is not told
 * from its original by this comparison, but by the sum. */
#include "runtime/model/weights_digest.h"

#include "runtime/base/digest.h"
#include "runtime/base/memory.h"

#ifdef MOERUN_XXHASH_DISPATCH
#include <immintrin.h>
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif

#include <string.h>

/* The library's vector functions leave the upper halves of the registers in
 * use, and code for older instruction sets, which the portable kernels are,
 * then runs at a twentieth of its speed until the end of the process. */
#ifdef MOERUN_XXHASH_DISPATCH
__attribute__((target("avx"))) static void clear_upper_halves(void) {
  _mm256_zeroupper();
}

static void end_vectors(void) {
  if (__builtin_cpu_supports("avx")) clear_upper_halves();
}
#else
static void end_vectors(void) {}
#endif

void moerun__digest_piece(uint64_t *sum, const char *tensor, int64_t offset,
                          const void *bytes, size_t count) {
  const uint64_t place =
      XXH3_64bits_withSeed(tensor, strlen(tensor), (uint64_t)offset);
  *sum += XXH3_64bits_withSeed(bytes, count, place);
  end_vectors();
}

moerun_status moerun__weights_digest_compare(moerun_comm *comm,
                                             const moerun__weights_digest *mine,
                                             moerun_status code,
                                             const char *what) {
  moerun_status status = MOERUN_OK;
  uint64_t first[] = {mine->shared, mine->samples};
  MOERUN_TRY(comm->ops->broadcast(comm, first, sizeof first));
  MOERUN_REQUIRE(first[0] == mine->shared && first[1] == mine->samples, code,
                 "%s: expected the weights that rank 0 has, found others",
                 what);
done:
  return status;
}

/* ---- Replicas ------------------------------------------------------------ */

/* A digest is told as its halves, for the least, and as their complements,
 * whose least are those of the greatest. */
enum { HALVES = 2, TOLD = 2 * HALVES };

static void write_told(int32_t *told, uint64_t digest) {
  memcpy(told, &digest, sizeof digest);
  for (int h = 0; h < HALVES; h++) {
    told[HALVES + h] = ~told[h];
  }
}

/* told[E][TOLD]: of all ranks. */
static moerun_status check_told(const int32_t *told,
                                const moerun_placement *placement,
                                const int32_t *offset, int32_t name,
                                const char *path) {
  moerun_status status = MOERUN_OK;
  for (int32_t e = 0; e < placement->num_experts; e++) {
    const int32_t *of = told + (size_t)e * TOLD;
    MOERUN_REQUIRE(of[0] == ~of[HALVES] && of[1] == ~of[HALVES + 1],
                   MOERUN_ERR_FORMAT,
                   "%s: expert %d of layer %d: expected the weights that rank "
                   "%d has, found others on another rank",
                   path, e, name, placement->rank_of[offset[e]]);
  }
done:
  return status;
}

/* [collective] */
static moerun_status compare_replicas(const uint64_t *expert, moerun_comm *comm,
                                      const moerun_placement *placement,
                                      const int32_t *offset, int32_t name,
                                      const char *path) {
  moerun_status status = MOERUN_OK;
  const int32_t E = placement->num_experts;
  moerun__news news = {.num_least = E * TOLD};
  const size_t scratch = moerun__news_scratch(comm->size, &news);
  int32_t *told = NULL;
  status = moerun__alloc(&told, (size_t)E * TOLD + scratch, sizeof *told);
  MOERUN_TRY(moerun__comm_agree(comm, status));
  for (int32_t e = 0; e < E; e++) {
    int32_t *of = told + (size_t)e * TOLD;
    for (int i = 0; i < TOLD; i++) {
      of[i] = INT32_MAX;
    }
    for (int32_t i = offset[e]; i < offset[e + 1]; i++) {
      if (placement->rank_of[i] == comm->rank) write_told(of, expert[e]);
    }
  }
  news.least = told;
  news.scratch = told + (size_t)E * TOLD;
  MOERUN_TRY(comm->ops->tell(comm, &news));
  MOERUN_TRY(check_told(told, placement, offset, name, path));
done:
  moerun__free(told);
  return status;
}

moerun_status moerun__weights_digest_layer(moerun__weights_digest *digest,
                                           moerun_comm *comm,
                                           const moerun_placement *placement,
                                           int32_t layer, int32_t name,
                                           const char *path) {
  moerun_status status = MOERUN_OK;
  const int32_t E = placement->num_experts;
  const int32_t *offset = placement->replica_offset + (size_t)layer * (size_t)E;
  if (offset[E] - offset[0] > E) {
    MOERUN_TRY(
        compare_replicas(digest->expert, comm, placement, offset, name, path));
  }
  for (int32_t e = 0; e < E; e++) {
    if (placement->rank_of[offset[e]] == comm->rank) {
      digest->experts += digest->expert[e];
    }
    digest->expert[e] = 0;
  }
done:
  return status;
}

/* ---- The whole ----------------------------------------------------------- */

/* [collective] *sum of all ranks. */
static moerun_status add_up(uint64_t *sum, moerun_comm *comm) {
  moerun_status status = MOERUN_OK;
  uint64_t *all = NULL;
  if (comm->rank == 0) {
    status = moerun__alloc(&all, (size_t)comm->size, sizeof *all);
  }
  MOERUN_TRY(moerun__comm_agree(comm, status));
  MOERUN_TRY(comm->ops->gather(comm, all, sum, sizeof *sum));
  for (int32_t r = 1; comm->rank == 0 && r < comm->size; r++) {
    *sum += all[r];
  }
  MOERUN_TRY(comm->ops->broadcast(comm, sum, sizeof *sum));
done:
  moerun__free(all);
  return status;
}

moerun_status moerun__weights_digest_agree(uint64_t *out, moerun_comm *comm,
                                           const moerun__weights_digest *mine,
                                           uint64_t names, const char *path) {
  moerun_status status = MOERUN_OK;
  uint64_t experts = mine->experts;
  MOERUN_TRY(moerun__comm_agree(
      comm,
      moerun__weights_digest_compare(comm, mine, MOERUN_ERR_FORMAT, path)));
  MOERUN_TRY(add_up(&experts, comm));
  uint64_t digest = moerun__digest_int(MOERUN_DIGEST_START, (int64_t)names);
  digest = moerun__digest_int(digest, (int64_t)mine->shared);
  *out = moerun__digest_int(digest, (int64_t)experts);
done:
  return status;
}
