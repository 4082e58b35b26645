/* moerun_mpi.h - MPI_Comm -> moerun_comm; the only public header that needs
 * mpi.h. */
#ifndef MOERUN_MOERUN_MPI_H
#define MOERUN_MOERUN_MPI_H

#include <moerun/moerun.h>

/* MPI's retired C++ bindings would need a library of their own. */
#ifndef OMPI_SKIP_MPICXX
#define OMPI_SKIP_MPICXX 1
#endif
#ifndef MPICH_SKIP_MPICXX
#define MPICH_SKIP_MPICXX 1
#endif
#include <mpi.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct moerun_mpi_options {
  size_t struct_size;
  double timeout_s; /* a wait longer than this fails with MOERUN_ERR_TIMEOUT;
                       0: 120; negative: wait for ever. Afterwards only
                       destroy functions do anything, and as MPI_Finalize
                       waits for every rank, MPI_Abort ends the program      */
} moerun_mpi_options;

/* [collective] Works on a duplicate of `comm` with errors returned; the caller
 * has called MPI_Init or MPI_Init_thread and finalizes after the destroy.
 * options may be NULL. Only what is no communicator fails on this rank
 * alone. */
MOERUN_MUST_CHECK MOERUN_API moerun_status moerun_comm_create_mpi(
    moerun_comm **out, MPI_Comm comm, const moerun_mpi_options *options);

#ifdef __cplusplus
}
#endif
#endif /* MOERUN_MOERUN_MPI_H */
