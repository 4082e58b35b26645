# where its tool is not installed.
function(moerun_lint_test name script)
  add_test(NAME lint.${name} COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/lint/${script} ${ARGN})
  set_tests_properties(lint.${name} PROPERTIES
    LABELS lint TIMEOUT 120 SKIP_RETURN_CODE 77)
endfunction()
moerun_lint_test(layering layering.sh ${PROJECT_SOURCE_DIR})
moerun_lint_test(layering_catches test_layering.sh)
moerun_lint_test(readmes readmes.sh ${PROJECT_SOURCE_DIR})
moerun_lint_test(readmes_catches test_readmes.sh)
moerun_lint_test(sizes sizes.sh ${PROJECT_SOURCE_DIR})
moerun_lint_test(format format.sh ${PROJECT_SOURCE_DIR})
# Once is enough, and minutes long: not in the sanitizer build.
if(NOT MOERUN_SANITIZE)
  moerun_lint_test(tidy tidy.sh ${PROJECT_BINARY_DIR} ${PROJECT_SOURCE_DIR})
  set_tests_properties(lint.tidy PROPERTIES TIMEOUT 900 PROCESSORS 2)
endif()
moerun_lint_test(config_table config_table.sh $<TARGET_FILE:moerun_cli> ${PROJECT_SOURCE_DIR})
