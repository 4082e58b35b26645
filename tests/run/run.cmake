# The program as its users call it. Arguments: see the scripts.
moerun_test_target(check_metrics run/check_metrics.c moerun_base)
foreach(name IN ITEMS run info refusals input requests outputs place home memory shared
                      readme
                      signals sliced slow suspend metrics once progress tokenize chat batch
                      unfinished pipes lost prefix)
  add_test(NAME run.${name}
    COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/run/test_${name}.sh
      $<TARGET_FILE:moerun_cli> ${PROJECT_SOURCE_DIR}/launch/demo
      ${CMAKE_CURRENT_BINARY_DIR}/run_${name}
      ${MPIEXEC_EXECUTABLE} ${mpiexec_flags} ${MPIEXEC_NUMPROC_FLAG})
  set_tests_properties(run.${name} PROPERTIES LABELS "run;np3" PROCESSORS 2
    TIMEOUT 240 ENVIRONMENT "${mpi_test_env}")
endforeach()
# These mostly wait, for launchers that end and for time limits.
set_tests_properties(run.lost run.refusals PROPERTIES PROCESSORS 1)
set_tests_properties(run.metrics PROPERTIES ENVIRONMENT
  "${mpi_test_env};CHECK_METRICS=$<TARGET_FILE:check_metrics>")
# Those that change weights in a file.
moerun_test_target(change_weights run/change_weights.c moerun_base)
foreach(name IN ITEMS broken weights)
  add_test(NAME run.${name}
    COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/run/test_${name}.sh
      $<TARGET_FILE:moerun_cli> ${PROJECT_SOURCE_DIR}/launch/demo
      ${CMAKE_CURRENT_BINARY_DIR}/run_${name}
      ${MPIEXEC_EXECUTABLE} ${mpiexec_flags} ${MPIEXEC_NUMPROC_FLAG})
  set_tests_properties(run.${name} PROPERTIES LABELS "run;np3" PROCESSORS 2
    TIMEOUT 240 ENVIRONMENT
    "${mpi_test_env};CHANGE_WEIGHTS=$<TARGET_FILE:change_weights>")
endforeach()
