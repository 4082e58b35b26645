/* XXH3 (xxHash, Y. Collet) of each range, seeded by the tensor's name and the
 * place in it. It runs at memory speed, where FNV (runtime/base/digest.h) would
 * take a step a byte; it is fastest where the library chooses vector
 * instructions by the processor (MOERUN_XXHASH_DISPATCH; the values are the
 * same). The sum needs no order, so each rank adds what it reads
 * when it reads it.
 *
 * An expert is read by the ranks that hold it and by no other, so that other
 * weights of experts on one node would pass unseen where only sums are compared.
 * That is why all ranks also read the start of every expert's tensors: training
 * and merging change all elements of a tensor, and a copy of an older checkpoint
 * differs there. A file of which single elements were changed further back is
 * not told from its original by this comparison, but by the sum. */
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

/* The library's vector functions leave the upper halves of the registers in use,
 * and code for older instruction sets, which the portable kernels are, then runs
 * at a twentieth of its speed until the end of the process. */
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

/* [collective] */
static moerun_status compare(moerun_comm *comm,
                             const moerun__weights_digest *mine,
                             const char *path) {
  moerun_status status = MOERUN_OK;
  uint64_t first[] = {mine->shared, mine->samples};
  MOERUN_TRY(comm->ops->broadcast(comm, first, sizeof first));
  MOERUN_REQUIRE(
      first[0] == mine->shared && first[1] == mine->samples, MOERUN_ERR_FORMAT,
      "%s: expected the weights that rank 0 has, found others", path);
done:
  return status;
}

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
  MOERUN_TRY(moerun__comm_agree(comm, compare(comm, mine, path)));
  MOERUN_TRY(add_up(&experts, comm));
  uint64_t digest = moerun__digest_int(MOERUN_DIGEST_START, (int64_t)names);
  digest = moerun__digest_int(digest, (int64_t)mine->shared);
  *out = moerun__digest_int(digest, (int64_t)experts);
done:
  return status;
}
