# moerun_e2e_test(name script.sh TIMEOUT ARGUMENT...): the whole program under
# the MPI launcher. Scripts get the program, the model, a folder for scratch and
# the launcher with its flags.
function(moerun_e2e_test name script timeout)
  add_test(NAME e2e.${name}
    COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/e2e/${script} $<TARGET_FILE:moerun_cli>
      ${PROJECT_SOURCE_DIR}/launch/demo/model
      ${CMAKE_CURRENT_BINARY_DIR}/e2e_${name} ${ARGN}
      ${MPIEXEC_EXECUTABLE} ${MPIEXEC_NUMPROC_FLAG} ${mpiexec_flags})
  set_tests_properties(e2e.${name} PROPERTIES LABELS e2e
    PROCESSORS 2 TIMEOUT ${timeout} ENVIRONMENT "${mpi_test_env}")
endfunction()

moerun_e2e_test(config config.sh 60)
moerun_e2e_test(kill kill.sh 420 6)
moerun_e2e_test(hostile hostile.sh 180)
set_tests_properties(e2e.hostile PROPERTIES PROCESSORS 1) # it mostly waits
moerun_e2e_test(memory memory.sh 120 300)
