#!/bin/sh
# mpirun for a laptop or a container: more ranks than cores, no busy waiting on
# them, and root, if that is who calls. For a cluster use mpirun or srun itself.
case $(mpirun --version 2> /dev/null) in
*"Open MPI"*)
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  export OMPI_MCA_mpi_yield_when_idle=1
  export OMPI_MCA_btl_vader_single_copy_mechanism=none
  exec mpirun --oversubscribe --bind-to none "$@"
  ;;
*) exec mpirun "$@" ;;
esac
