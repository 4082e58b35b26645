// The public headers are C++17 too.
#include <moerun/moerun.h>
#include <moerun/moerun.h>
#include <moerun/moerun_mpi.h>

#include "support/sized_structs.h"

int main() {
  moerun_session_options options = {};
  moerun_comm *comm = nullptr;
  options.struct_size = sizeof options;
  options.wire = MOERUN_WIRE_BF16;
  const moerun_status status = moerun_comm_create_self(&comm);
  moerun_comm_destroy(comm);
  return status == MOERUN_OK && options.chunks == 0 ? 0 : 1;
}
