# moerun_lint_test(sizes sizes.sh ARGUMENT...): a check of the sources, skipped
# where its tool is not installed.
function(moerun_lint_test name script)
  add_test(NAME lint.${name} COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/lint/${script} ${ARGN})
  set_tests_properties(lint.${name} PROPERTIES
    LABELS lint TIMEOUT 120 SKIP_RETURN_CODE 77)
endfunction()
moerun_lint_test(layering layering.sh ${PROJECT_SOURCE_DIR})
moerun_lint_test(layering_catches test_layering.sh)
