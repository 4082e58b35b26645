add_test(NAME api.examples
  COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/api/test_examples.sh
    ${PROJECT_BINARY_DIR}/launch ${PROJECT_SOURCE_DIR}/launch/demo/model
    ${MPIEXEC_EXECUTABLE} ${MPIEXEC_NUMPROC_FLAG} ${mpiexec_flags})
set_tests_properties(api.examples PROPERTIES LABELS api
  PROCESSORS 2 TIMEOUT 120 ENVIRONMENT "${mpi_test_env}")
add_test(NAME api.cli
  COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/api/test_cli.sh $<TARGET_FILE:moerun_cli>
    ${PROJECT_SOURCE_DIR}/launch/demo/model ${CMAKE_CURRENT_BINARY_DIR}/cli)
set_tests_properties(api.cli PROPERTIES LABELS api TIMEOUT 60)
add_test(NAME api.setup
  COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/api/test_setup.sh ${PROJECT_SOURCE_DIR}
    ${CMAKE_CURRENT_BINARY_DIR}/setup)
set_tests_properties(api.setup PROPERTIES LABELS api TIMEOUT 60)
add_test(NAME api.mpirun
  COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/api/test_mpirun.sh ${PROJECT_SOURCE_DIR}
    $<TARGET_FILE:moerun_cli> ${CMAKE_CURRENT_BINARY_DIR}/mpirun)
# Mostly waits for launchers that end: one processor.
set_tests_properties(api.mpirun PROPERTIES LABELS api TIMEOUT 300
  SKIP_RETURN_CODE 77)
