# Installed into an empty prefix and used by a program of somebody else. Not
# with sanitizers: their run-time library would be the program's business.
if(NOT MOERUN_SANITIZE)
  set(kinds static shared)
  if(BUILD_SHARED_LIBS)
    set(kinds shared)
  endif()
  foreach(kind IN LISTS kinds)
    add_test(NAME install.${kind}
      COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/install/test_install.sh ${kind}
        ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR}
        ${CMAKE_CURRENT_BINARY_DIR}/install_${kind}
        ${MPIEXEC_EXECUTABLE} ${MPIEXEC_NUMPROC_FLAG} 2 ${mpiexec_flags})
    set_tests_properties(install.${kind} PROPERTIES LABELS install
      PROCESSORS 2 TIMEOUT 300 ENVIRONMENT "${mpi_test_env}")
  endforeach()
endif()
