/* What launchers tell processes without MPI. A subcommand that needs one
 * process does its work in the first of a job alone. And processes that were
 * started as one job may each be alone: with the mpiexec of another MPI, or
 * with srun where it does not serve this MPI, each has one rank and would do,
 * and write, all of the work. */
#ifndef MOERUN_LAUNCH_LAUNCHER_H
#define MOERUN_LAUNCH_LAUNCHER_H

/* What a launcher's variables say of this process. */
typedef struct moerun__launcher {
  const char *variable; /* that tells of several processes; NULL: none does */
  long value;
  int speaks;   /* whether this one of them prints what is wrong */
  int is_first; /* whether none that is known of comes before this one */
} moerun__launcher;

/* Reads the environment by `get` (NULL: this process's own). Only what tells of
 * this very process counts: in a batch script SLURM_NTASKS is the size of the
 * job, and one process is what it should be. */
moerun__launcher moerun__launcher_find(const char *(*get)(const char *name));

#endif
